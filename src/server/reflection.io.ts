/** Server reflection v1 and v1alpha: what grpcurl and its kin read instead of our .proto files. */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { Server } from "@grpc/grpc-js";
import { type EnumTypeDefinition, loadSync, type PackageDefinition } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { protoPath as healthProto } from "grpc-health-check";

const HEALTH = "grpc.health.v1.Health";
const REFLECTION = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/**
 * Serves the descriptors of `gen/descriptors.binpb` and lists exactly `serviceNames`, health and reflection itself.
 * The files go to @grpc/reflection as they were compiled: proto-loader would merge each package into one file.
 */
export function addReflection(server: Server, descriptorSet: Uint8Array, serviceNames: readonly string[]): void {
  const files = fromBinary(FileDescriptorSetSchema, descriptorSet).file.map((file) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, file)),
  );
  const ours: EnumTypeDefinition = { format: "Protocol Buffer 3 EnumDescriptorProto", type: {}, fileDescriptorProtos: files };
  const reflectionRoot = join(dirname(createRequire(import.meta.url).resolve("@grpc/reflection")), "../proto/grpc/reflection");
  const definitions: PackageDefinition = {
    ...loadSync(healthProto),
    ...loadSync(join(reflectionRoot, "v1/reflection.proto")),
    ...loadSync(join(reflectionRoot, "v1alpha/reflection.proto")),
    "waymark.descriptors": ours,
  };
  new ReflectionService(definitions, { services: [...serviceNames, HEALTH, ...REFLECTION] }).addToServer(server);
}
