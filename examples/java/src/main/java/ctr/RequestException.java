package ctr;

/** A request that the model cannot be asked; the message names the place in it. */
public final class RequestException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** Takes the sentence for whoever made the request. */
  public RequestException(String message) {
    super(message);
  }
}
