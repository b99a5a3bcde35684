"""What a client gets for a sound request, through both doors."""

import base64
import copy

import numpy as np
from live_server import arrays, assert_close, predict_request, rows
from tensorflow.core.framework import types_pb2


def test_scores_over_grpc(server, inputs, expected):
    for tensors, scores in zip(inputs, expected[1], strict=True):
        assert_close(server.predict(tensors)["probability"], scores)
        assert_close(server.predict(tensors, version=1)["probability"], scores)


def test_scores_over_rest(server, inputs, expected):
    for tensors, scores in zip(inputs, expected[1], strict=True):
        columns = rows(tensors)
        status, answer = server.http("/v1/models/ctr:predict", {"inputs": columns})
        assert status == 200
        assert_close(answer["outputs"]["probability"], scores)
        (row,) = [{name: value[0] for name, value in columns.items()}]
        status, answer = server.http(
            "/v1/models/ctr/versions/1:predict",
            {"signature_name": "serving_default", "instances": [row, row]},
        )
        assert status == 200
        assert_close([p["probability"] for p in answer["predictions"]], [*scores] * 2)


def test_state_and_candidates(server, inputs, expected):
    for tensors, scores in zip(inputs, expected[1], strict=True):
        user = {k: v for k, v in tensors.items() if not k.startswith("candidate_")}
        state = server.predict(user, "encode_user")
        candidates = {k: v for k, v in tensors.items() if k.startswith("candidate_")}
        outputs = server.predict(state | candidates, "score_candidates")
        assert_close(outputs["probability"], scores)


def test_records_over_both_doors(server, records, expected):
    examples = np.empty(len(records), object)
    examples[:] = records
    found = server.predict({"examples": examples}, "serialized_examples")
    encoded = [{"b64": base64.b64encode(record).decode()} for record in records]
    _, answer = server.http(
        "/v1/models/ctr:predict",
        {"signature_name": "serialized_examples", "instances": encoded},
    )
    for i, scores in enumerate(expected[1]):
        count = scores.shape[1]
        assert_close(found["probability"][i, :count], scores[0])
        assert_close(answer["predictions"][i]["probability"][:count], scores[0])


def test_the_answer_has_typed_fields_and_says_who_gave_it(server, inputs):
    request = predict_request(inputs[0])
    request.output_filter.append("logit")
    response = server.prediction.Predict(request, timeout=30)
    assert list(response.outputs) == ["logit"]
    logit = response.outputs["logit"]
    assert logit.dtype == types_pb2.DT_FLOAT and not logit.tensor_content
    assert [dim.size for dim in logit.tensor_shape.dim] == [1, 3]
    assert len(logit.float_val) == 3
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (
        "ctr",
        1,
        "serving_default",
    )


def test_values_may_come_as_bytes_or_repeat_the_last(server, inputs, expected):
    request = predict_request(inputs[0])
    times = request.inputs["behavior_time"]
    content = np.array(times.int64_val, "<i8").tobytes()
    times.ClearField("int64_val")
    times.tensor_content = content
    counter = request.inputs["candidate_clicks_1d"]
    del counter.int64_val[1:]
    counter.int64_val[0] = 0
    same = copy.deepcopy(inputs[0])
    same["candidate_clicks_1d"][:] = 0
    assert_close(
        arrays(server.prediction.Predict(request, timeout=30))["probability"],
        server.predict(same)["probability"],
    )
