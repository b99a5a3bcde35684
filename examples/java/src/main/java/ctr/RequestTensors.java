package ctr;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.tensorflow.Tensor;
import org.tensorflow.ndarray.Shape;
import org.tensorflow.ndarray.buffer.DataBuffers;
import org.tensorflow.types.TFloat32;
import org.tensorflow.types.TInt64;
import org.tensorflow.types.TString;

/**
 * A JSON request becomes the inputs of a model's signatures, a batch of one.
 *
 * <p>Which inputs there are, {@code assets.extra/signature.json} of the export tells. A feature is
 * found by its input's name: {@code user_age} is {@code age} of {@code user}, {@code
 * candidate_price} is {@code price} of each of the {@code candidates}. Times are checked, and
 * behaviors sorted, by the model.
 */
final class RequestTensors {
  private static final Map<String, String> PROFILES = Map.of("user", "user", "context", "context");
  private static final Map<String, String> LISTS =
      Map.of("behavior", "behaviors", "candidate", "candidates");

  private final JsonObject inputs;

  private RequestTensors(JsonObject inputs) {
    this.inputs = inputs;
  }

  static RequestTensors load(Path folder) throws IOException {
    Path path = folder.resolve("assets.extra").resolve("signature.json");
    JsonObject signatures = JsonParser.parseString(Files.readString(path)).getAsJsonObject();
    return new RequestTensors(
        signatures.getAsJsonObject("serving_default").getAsJsonObject("inputs"));
  }

  /** Input name → tensor; the caller closes them. */
  Map<String, Tensor> of(JsonObject request) {
    List<JsonObject> candidates = rows(request, "candidate");
    if (candidates.isEmpty()) {
      throw new RequestException("`candidates` must hold at least one. Received: []");
    }
    Map<String, float[]> places = SlatePlaces.of(inputs.keySet(), candidates);
    Map<String, Tensor> tensors = new HashMap<>();
    for (String name : inputs.keySet()) {
      float[] place = places.get(name);
      tensors.put(
          name,
          place == null
              ? tensor(name, request)
              : TFloat32.tensorOf(Shape.of(1, place.length), DataBuffers.of(place)));
    }
    return tensors;
  }

  private Tensor tensor(String name, JsonObject request) {
    String group = name.substring(0, name.indexOf('_'));
    if (!PROFILES.containsKey(group) && !LISTS.containsKey(group)) { // such as `request_time`
      if (!request.has(name)) {
        throw new RequestException("The request lacks '" + name + "'.");
      }
      return TInt64.vectorOf(whole(name, request.get(name)));
    }
    List<JsonObject> rows = rows(request, group);
    if (name.equals(group + "_length")) {
      return TInt64.vectorOf(rows.size());
    }
    String list = name.replaceFirst("_length$", "");
    boolean isLength = !list.equals(name) && isList(list);
    List<List<JsonElement>> values = new ArrayList<>();
    for (int i = 0; i < rows.size(); i++) {
      List<JsonElement> each = values(isLength ? list : name, rows.get(i), place(group, i));
      values.add(isLength ? List.of(new JsonPrimitive(each.size())) : each);
    }
    if (values.isEmpty()) { // a tensor of no behaviors has one place of padding
      values.add(List.of());
    }
    List<Long> shape = new ArrayList<>(List.of(1L));
    if (LISTS.containsKey(group)) {
      shape.add((long) values.size());
    }
    int width = isLength ? 0 : width(name, values);
    if (width > 0) {
      shape.add((long) width);
    }
    JsonObject input = inputs.getAsJsonObject(name);
    List<JsonElement> flat = new ArrayList<>();
    for (List<JsonElement> each : values) {
      flat.addAll(each);
      flat.addAll(Collections.nCopies(Math.max(1, width) - each.size(), missing(input)));
    }
    if (input.has("missing")) {
      flat.replaceAll(value -> value.isJsonNull() ? missing(input) : value);
    }
    long[] sizes = shape.stream().mapToLong(Long::longValue).toArray();
    return typed(name, input.get("dtype").getAsString(), Shape.of(sizes), flat);
  }

  /** What an input has of one row: one value, or as many as its list holds. */
  private List<JsonElement> values(String name, JsonObject row, String place) {
    String feature = name.substring(name.indexOf('_') + 1);
    if (!row.has(feature) && !isText(name)) {
      throw new RequestException(
          "`" + place + "` lacks '" + feature + "'; give null where a feature is unknown.");
    }
    JsonElement value = row.has(feature) ? row.get(feature) : JsonNull.INSTANCE;
    if (!isList(name) && !isText(name)) {
      return List.of(value);
    }
    if (value.isJsonNull()) {
      return List.of();
    }
    if (!value.isJsonArray()) {
      throw new RequestException(
          "`" + place + "." + feature + "` must be a list […]. Received: " + value);
    }
    List<JsonElement> values = value.getAsJsonArray().asList();
    return isText(name) ? values : values.subList(0, Math.min(values.size(), size(name)));
  }

  private boolean isList(String name) {
    return inputs.has(name) && inputs.has(name + "_length");
  }

  /** Whether it takes tokens, which only an item brings along that the model does not know. */
  private boolean isText(String name) {
    return lastAxis(name).equals("tokens");
  }

  private String lastAxis(String name) {
    JsonArray axes = inputs.getAsJsonObject(name).getAsJsonArray("shape");
    return axes.get(axes.size() - 1).getAsString();
  }

  private int size(String name) {
    return Integer.parseInt(lastAxis(name));
  }

  /** The size of an input's last axis, 0 where the rows are that. */
  private int width(String name, List<List<JsonElement>> values) {
    if (isText(name)) {
      return Math.max(1, values.stream().mapToInt(List::size).max().getAsInt());
    }
    return lastAxis(name).endsWith("s") ? 0 : size(name);
  }

  private static List<JsonObject> rows(JsonObject request, String group) {
    String key = PROFILES.getOrDefault(group, LISTS.get(group));
    boolean many = LISTS.containsKey(group);
    JsonElement none = many ? new JsonArray() : new JsonObject();
    JsonElement value = request.has(key) ? request.get(key) : none;
    if (many && !value.isJsonArray()) {
      throw new RequestException("`" + key + "` must be a list […]. Received: " + value);
    }
    List<JsonElement> elements = many ? value.getAsJsonArray().asList() : List.of(value);
    for (JsonElement element : elements) {
      if (!element.isJsonObject()) {
        throw new RequestException("`" + key + "` must be {…}. Received: " + element);
      }
    }
    return elements.stream().map(JsonElement::getAsJsonObject).toList();
  }

  private static String place(String group, int row) {
    return PROFILES.containsKey(group) ? group : LISTS.get(group) + "[" + row + "]";
  }

  private static JsonElement missing(JsonObject input) {
    if (!input.has("missing")) {
      return new JsonPrimitive(0);
    }
    boolean isNan = input.get("dtype").getAsString().equals("float32");
    return isNan ? new JsonPrimitive(Float.NaN) : input.get("missing");
  }

  private static Tensor typed(String name, String dtype, Shape shape, List<JsonElement> values) {
    switch (dtype) {
      case "int64":
        long[] wholes = values.stream().mapToLong(value -> whole(name, value)).toArray();
        return TInt64.tensorOf(shape, DataBuffers.of(wholes));
      case "float32":
        float[] numbers = new float[values.size()];
        for (int i = 0; i < numbers.length; i++) {
          numbers[i] = number(name, values.get(i));
        }
        return TFloat32.tensorOf(shape, DataBuffers.of(numbers));
      case "string":
        String[] words = values.stream().map(value -> word(name, value)).toArray(String[]::new);
        return TString.tensorOf(shape, DataBuffers.ofObjects(words));
      default:
        throw new IllegalArgumentException("`" + name + "` is of a dtype not known: " + dtype);
    }
  }

  private static long whole(String name, JsonElement value) {
    try {
      return Long.parseLong(numeral(name, value));
    } catch (NumberFormatException error) {
      throw new RequestException("`" + name + "` must be whole. Received: " + value);
    }
  }

  private static float number(String name, JsonElement value) {
    return Float.parseFloat(numeral(name, value));
  }

  private static String numeral(String name, JsonElement value) {
    if (!value.isJsonPrimitive() || !value.getAsJsonPrimitive().isNumber()) {
      throw new RequestException("`" + name + "` must be a number. Received: " + value);
    }
    return value.getAsString();
  }

  private static String word(String name, JsonElement value) {
    if (!value.isJsonPrimitive() || !value.getAsJsonPrimitive().isString()) {
      throw new RequestException("`" + name + "` must be a string. Received: " + value);
    }
    return value.getAsString();
  }
}
