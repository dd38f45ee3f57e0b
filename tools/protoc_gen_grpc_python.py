"""A protoc plug-in that generates ``*_pb2_grpc.py``.

buf runs plug-ins only, and grpcio-tools has its generator compiled into protoc instead. So this
reads the request that buf sends, and lets that protoc generate from the descriptors in it.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = Path(folder, "out")
        out.mkdir()
        failed = protoc.main(
            ["protoc", f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}", *request.file_to_generate]
        )
        if failed:
            response.error = f"protoc failed with {failed}"
            return response
        for path in sorted(out.rglob("*.py")):
            content = path.read_text()
            if "_method_handlers" in content:  # files without a service hold nothing but a version check
                response.file.add(name=str(path.relative_to(out)), content=content)
    return response


if __name__ == "__main__":
    answer = generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(answer.SerializeToString())
