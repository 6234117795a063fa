/** Server reflection v1 and v1alpha: what grpcurl and its kin read instead of our .proto files. */
import type { Server } from "@grpc/grpc-js";
import type { EnumTypeDefinition } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { tagOf, WIRE, WireReader } from "../../lib/protowire.ts";

/** Served beside our own services; their files are in the descriptor set too (third_party/proto/grpc). */
const COMPANIONS = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/** FileDescriptorSet.file. */
const FILE_TAG = tagOf(1, WIRE.BYTES);

/**
 * Returns what serves the files of a `FileDescriptorSet` and lists exactly `serviceNames`, health and reflection itself. The
 * files go to @grpc/reflection as buf compiled them: through proto-loader each package would become one file, without comments,
 * and a map field (as in HealthListResponse) would get an entry name that grpcurl refuses. What the library makes of them takes
 * 0.13 s and 10 MB, which few nodes ever need. Throws at once when the bytes are no set of files.
 */
export function prepareReflection(server: Server, descriptorSet: Uint8Array, serviceNames: readonly string[]): () => void {
  const files = filesIn(descriptorSet);
  // The library reads nothing of a definition but its files; an enum's is the smallest there is.
  const definition: EnumTypeDefinition = { format: "Protocol Buffer 3 EnumDescriptorProto", type: {}, fileDescriptorProtos: files };
  return () => new ReflectionService({ waymark: definition }, { services: [...serviceNames, ...COMPANIONS] }).addToServer(server);
}

/** The set's files, encoded as they are in it: decoding and encoding them took a sixth of a node's start. */
function filesIn(descriptorSet: Uint8Array): Buffer[] {
  const files: Buffer[] = [];
  const reader = new WireReader(descriptorSet);
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === FILE_TAG) files.push(Buffer.from(reader.view()));
    else reader.skip(tag);
  }
  return files;
}
