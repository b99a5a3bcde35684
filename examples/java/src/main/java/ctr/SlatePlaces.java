package ctr;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A candidate's places within its slate by a counter, as the model was trained on them. */
final class SlatePlaces {
  private SlatePlaces() {}

  /**
   * Input name → a value for each candidate.
   *
   * <p>Where the model has {@code candidate_X}, {@code candidate_X_rank}, {@code
   * candidate_X_share} and {@code candidate_X_ratio} and a request gives the first alone.
   */
  static Map<String, float[]> of(Set<String> inputs, List<JsonObject> candidates) {
    Map<String, float[]> places = new HashMap<>();
    for (String name : inputs) {
      String counter = name.replaceFirst("^candidate_", "");
      List<String> forms = List.of(name + "_rank", name + "_share", name + "_ratio");
      boolean isGiven = candidates.stream().anyMatch(row -> row.has(counter + "_rank"));
      if (!counter.equals(name) && inputs.containsAll(forms) && !isGiven) {
        add(places, name, counters(candidates, counter));
      }
    }
    return places;
  }

  /** A counter of each candidate, NaN where it is unknown. */
  private static double[] counters(List<JsonObject> candidates, String counter) {
    double[] values = new double[candidates.size()];
    for (int i = 0; i < values.length; i++) {
      JsonElement value = candidates.get(i).get(counter);
      boolean isNumber =
          value != null && value.isJsonPrimitive() && value.getAsJsonPrimitive().isNumber();
      values[i] = isNumber ? value.getAsDouble() : Double.NaN; // no number is told elsewhere
    }
    return values;
  }

  private static void add(Map<String, float[]> places, String name, double[] values) {
    int count = 0;
    double sum = 0;
    double largest = 0;
    for (double value : values) {
      if (!Double.isNaN(value)) {
        count++;
        sum += value;
        largest = Math.max(largest, value);
      }
    }
    float[] rank = new float[values.length];
    float[] share = new float[values.length];
    float[] ratio = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      boolean isKnown = !Double.isNaN(values[i]);
      rank[i] = isKnown ? (float) rank(values, i, count) : Float.NaN;
      share[i] = (float) (values[i] / Math.max(largest, 1));
      ratio[i] = (float) (Math.log1p(values[i]) - Math.log1p(sum / Math.max(count, 1)));
    }
    places.put(name + "_rank", rank);
    places.put(name + "_share", share);
    places.put(name + "_ratio", ratio);
  }

  /** The share of the others whose counter is smaller, of equal ones half. */
  private static double rank(double[] values, int place, int count) {
    double smaller = 0;
    for (int i = 0; i < values.length; i++) {
      if (i != place && values[i] <= values[place]) {
        smaller += values[i] < values[place] ? 1 : 0.5;
      }
    }
    return count > 1 ? smaller / (count - 1) : 0.5;
  }
}
