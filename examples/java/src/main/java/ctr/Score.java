package ctr;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.SessionFunction;
import org.tensorflow.Tensor;
import org.tensorflow.exceptions.TFInvalidArgumentException;
import org.tensorflow.types.TFloat32;

/**
 * Scores raw requests by a model that {@code ctr-tf export} wrote.
 *
 * <p>Thread-safe once loaded: one instance serves all threads of a process.
 */
public final class Score implements AutoCloseable {
  private static final String USAGE =
      "Usage: java -jar score.jar [--two_steps] VERSION_FOLDER REQUESTS.json\n"
          + "  VERSION_FOLDER  of an export, such as run/export/1\n"
          + "  REQUESTS.json   a request, or a list of requests; for each a line is printed,"
          + " its candidates' probabilities\n"
          + "  --two_steps     encode the user first, then score candidates with the state";

  private final SavedModelBundle model;
  private final RequestTensors requests;

  /** Loads one version of an export. */
  public Score(Path folder) throws IOException {
    requests = RequestTensors.load(folder);
    model = SavedModelBundle.load(folder.toString(), SavedModelBundle.DEFAULT_TAG);
  }

  /** The click probability of each candidate, in the request's order. */
  public float[] score(JsonObject request) {
    Map<String, Tensor> tensors = requests.of(request);
    try (Result outputs = call("serving_default", tensors)) {
      return probabilities(outputs, candidates(request));
    } finally {
      tensors.values().forEach(Tensor::close);
    }
  }

  /** The same in two steps; between them a server may keep the user's state. */
  public float[] scoreInTwoSteps(JsonObject request) {
    Map<String, Tensor> tensors = requests.of(request);
    try (Result state = call("encode_user", tensors)) {
      Map<String, Tensor> stateAndCandidates = new HashMap<>(tensors);
      state.forEach(output -> stateAndCandidates.put(output.getKey(), output.getValue()));
      try (Result outputs = call("score_candidates", stateAndCandidates)) {
        return probabilities(outputs, candidates(request));
      }
    } finally {
      tensors.values().forEach(Tensor::close);
    }
  }

  /** Calls a signature with those of the tensors that it takes. */
  private Result call(String signature, Map<String, Tensor> tensors) {
    SessionFunction function = model.function(signature);
    Map<String, Tensor> inputs = new HashMap<>();
    for (String name : function.signature().inputNames()) {
      inputs.put(name, tensors.get(name));
    }
    return function.call(inputs);
  }

  private static int candidates(JsonObject request) {
    return request.getAsJsonArray("candidates").size();
  }

  private static float[] probabilities(Result outputs, int candidates) {
    TFloat32 probability = (TFloat32) outputs.get("probability").orElseThrow();
    float[] values = new float[candidates];
    for (int i = 0; i < candidates; i++) {
      values[i] = probability.getFloat(0, i);
    }
    return values;
  }

  @Override
  public void close() {
    model.close();
  }

  /** Prints a line for each request of a file: probabilities, or why it is refused. */
  public static void main(String[] arguments) throws IOException {
    boolean twoSteps = arguments.length > 0 && arguments[0].equals("--two_steps");
    List<String> paths = Arrays.asList(arguments).subList(twoSteps ? 1 : 0, arguments.length);
    if (paths.size() != 2) {
      System.err.println(USAGE);
      System.exit(2);
    }
    JsonElement read = JsonParser.parseString(Files.readString(Path.of(paths.get(1))));
    List<JsonElement> asked = read.isJsonArray() ? read.getAsJsonArray().asList() : List.of(read);
    boolean isRefused = false;
    try (Score model = new Score(Path.of(paths.get(0)))) {
      for (JsonElement each : asked) {
        try {
          JsonObject request = each.getAsJsonObject();
          float[] scores = twoSteps ? model.scoreInTwoSteps(request) : model.score(request);
          System.out.println(Arrays.toString(scores));
        } catch (RequestException | TFInvalidArgumentException error) { // by us, by the model
          JsonObject refusal = new JsonObject();
          refusal.addProperty("error", error.getMessage());
          System.out.println(refusal);
          isRefused = true;
        }
      }
    }
    System.exit(isRefused ? 1 : 0);
  }
}
