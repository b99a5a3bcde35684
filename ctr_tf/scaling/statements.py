"""What a study says in sentences, its failures among them."""

from ctr_tf.scaling.grid import MIN_FITTED
from ctr_tf.scaling.study import AXES, NOISES, Estimate, Prediction, Study


def statements(study: Study) -> list[str]:
    """The sentences: the law, the limit, what was refused, each prediction."""
    largest = max(point.auc for point in study.points)
    lines = [
        f"AUC = E - A X^(-alpha), X: {AXES[study.axis]}, fitted to the "
        f"{study.fitted} smallest: E = {_band(study.limit)}, A = "
        f"{study.amplitude:.4g}, alpha = {_band(study.alpha, '.3g')}. R2 = "
        f"{study.r2:.4f}, which proves nothing by itself; the rival's, a + b ln X with "
        f"b = {float(study.rival.slope[0]):.4g}, is {study.rival_r2:.4f}.",
        f"The largest AUC measured is {largest:.4f}. {_on_limit(study)}",
    ]
    if study.fitted == MIN_FITTED:
        lines.append(
            "Three points for three numbers: a law can be laid through most, and only "
            "what it predicts counts."
        )
    lines += [f"**Refused as a law**: {fault}." for fault in study.faults]
    if study.predictions:
        faults = [f" **Refused as a law**: {f}." for f in study.faults_of_all]
        lines.append(
            f"Fitted to all {len(study.points)}, nothing withheld: E = "
            f"{_band(study.limit_of_all)}, alpha = {_band(study.alpha_of_all, '.3g')}."
            f"{''.join(faults)}"
        )
    lines += [_on_prediction(prediction) for prediction in study.predictions]
    if study.predictions:
        law, rival = study.error(), study.error(of_rival=True)
        assert law is not None and rival is not None
        better = "power law" if law < rival else "rival without a limit"
        lines.append(
            f"The {better} predicts better: the withheld are missed by {law:.4f} on "
            f"average by the power law, by {rival:.4f} by the rival."
        )
    return lines


def _on_limit(study: Study) -> str:
    known, band = study.known_limit, study.limit
    if known is None:
        return "The limit is not known."
    place = "inside" if band.low <= known <= band.high else "outside"
    return (
        f"The limit is known, {known:.4f}: {place} the band of E, which is off by "
        f"{band.value - known:+.4f}."
    )


def _on_prediction(prediction: Prediction) -> str:
    place = "inside" if prediction.within_band else "outside"
    if prediction.noise is None:
        verdict = "one seed tells no noise"
    else:
        what = "within" if prediction.within_noise else "a failure: not within"
        verdict = f"{what} the noise of seeds, {NOISES} × {prediction.noise:.4f}"
    return (
        f"{prediction.name}, withheld, was predicted at {_band(prediction.law)} and "
        f"measured at {prediction.measured:.4f}: {place} the band, off by "
        f"{prediction.error:+.4f}, {verdict}. The rival predicted "
        f"{prediction.rival:.4f}."
    )


def _band(estimate: Estimate, form: str = ".4f") -> str:
    value, low, high = (
        format(number, form) for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"
