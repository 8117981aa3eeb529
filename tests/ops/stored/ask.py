"""Run by the Python of MXNet's environment: compute the requested rows, and write each answer as soon as it is there.

    python ask.py REQUESTS ANSWERS SECONDS

An answer is a dict of arrays, or the reason, as text, why MXNet has none. An array goes to and fro as (dtype, shape,
bytes), because the two processes have different NumPys. A row that takes longer than SECONDS ends the process.
"""

import json
import pickle
import re
import signal
import sys

import mxnet as mx
import numpy as np

ERROR_LIMIT = 160  # characters


def main(requests, answers, seconds):
    with open(requests, "rb") as file:
        rows = pickle.load(file)
    with open(answers, "ab") as file:
        for key, request in rows:
            signal.alarm(int(seconds))  # its default action ends the process
            try:
                answer = {what: (a.dtype.str, a.shape, a.tobytes()) for what, a in answer_to(request).items()}
            except Exception as error:
                answer = "MXNet refuses: " + first_line(error)
            pickle.dump((key, answer), file, protocol=4)
            file.flush()


def answer_to(request):
    """All results, or those of forward where MXNet has no gradient."""
    try:
        return compute(request)
    except mx.MXNetError:
        if not request["wants"]:
            raise
        return compute(dict(request, wants=[]))


def compute(request):
    name = next((n for n in request["names"] if n in OPERATORS), None)
    if name is None:
        raise KeyError("there is no operator " + request["names"][0])
    inputs = {n: np.frombuffer(data, dtype).reshape(shape) for n, (dtype, shape, data) in request["inputs"].items()}
    aux = request["aux"]
    symbol = build(name, request["attrs"], list(inputs))
    arguments = {n: mx.nd.array(a, dtype=a.dtype) for n, a in inputs.items() if n not in aux}
    states = {n: mx.nd.array(inputs[n], dtype=inputs[n].dtype) for n in aux}
    wants = [n for n in request["wants"] if n in arguments]
    gradients = {n: mx.nd.zeros(arguments[n].shape, dtype=arguments[n].dtype) for n in wants}
    reqs = {n: "write" if n in wants else "null" for n in arguments}
    executor = symbol.bind(mx.cpu(), arguments, gradients, reqs, states)
    outputs = executor.forward(is_train=request["train"])
    answer = {"in:" + n: a for n, a in inputs.items()}
    answer.update({"out:" + n: o.asnumpy() for n, o in zip(request["outputs"], outputs, strict=True)})
    answer.update({"aux:" + n: a.asnumpy() for n, a in executor.aux_dict.items()})
    if wants:
        for n in aux:
            executor.aux_dict[n][:] = inputs[n]
        answer.update(backward(executor, wants))
    return answer


def backward(executor, wants):
    """Head gradients and gradients of a training pass."""
    outputs = executor.forward(is_train=True)
    random = np.random.RandomState(1)
    heads = [random.uniform(-1, 1, o.shape).astype(o.dtype) for o in outputs]
    executor.backward([mx.nd.array(h, dtype=h.dtype) for h in heads])
    answer = {"head:" + str(i): h for i, h in enumerate(heads)}
    answer.update({"grad:" + n: executor.grad_dict[n].asnumpy() for n in wants})
    return answer


def build(name, attrs, inputs):
    """The operator over variables, through JSON: any name will do there."""
    nodes = [{"op": "null", "name": n, "inputs": []} for n in inputs]
    nodes.append({"op": name, "name": "row", "attrs": attrs, "inputs": [[i, 0, 0] for i in range(len(inputs))]})
    text = json.dumps({
        "nodes": nodes, "arg_nodes": list(range(len(inputs))), "node_row_ptr": list(range(len(nodes) + 1)),
        "heads": [[len(inputs), 0, 0]], "attrs": {"mxnet_version": ["int", 10901]},
    })  # fmt: skip
    symbol = mx.sym.load_json(text)
    count = len(symbol.get_internals().list_outputs()) - len(inputs)
    if count > 1:  # all visible outputs are heads
        full = json.loads(text)
        full["heads"] = [[len(inputs), i, 0] for i in range(count)]
        symbol = mx.sym.load_json(json.dumps(full))
    return symbol


def first_line(error):
    lines = [line for line in str(error).splitlines() if line.strip() and "Stack trace" not in line]
    words = next((line for line in lines if "Check failed" in line or "Error" in line), lines[0] if lines else "")
    return re.sub(r"\[\d\d:\d\d:\d\d\] ", "", words).strip()[-ERROR_LIMIT:]  # without the time of day


def operators():
    import ctypes

    size, names = mx.base.mx_uint(), ctypes.POINTER(ctypes.c_char_p)()
    mx.base.check_call(mx.base._LIB.MXListAllOpNames(ctypes.byref(size), ctypes.byref(names)))
    return {names[i].decode() for i in range(size.value)}


OPERATORS = operators()

if __name__ == "__main__":
    main(*sys.argv[1:])
