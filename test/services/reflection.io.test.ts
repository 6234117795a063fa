/** Reflection and health through src/grpc over real sockets: every service is listed, every file it needs can be had, and nothing else. */
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { afterEach, expect, test } from "vitest";
import { HealthCheckRequestSchema, HealthCheckResponseSchema } from "../../gen/grpc/health/v1/health_pb.js";
import {
  ServerReflectionRequestSchema,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { ownDescriptors } from "../../src/node/listeners.io.ts";
import { HealthBoard } from "../../src/services/health.ts";
import { reflectionServices } from "../../src/services/reflection.ts";
import { demoMethods } from "../fakes/demo-service.ts";
import { Conversation, closeAll, connected, serve } from "../fakes/grpc-room.ts";
import { until } from "../fakes/until.ts";

afterEach(closeAll);

const NAMES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

type Ask = Parameters<typeof create<typeof ServerReflectionRequestSchema>>[1];

async function started() {
  const health = new HealthBoard([]);
  const services = [health.service, ...reflectionServices(ownDescriptors(), [health.service])];
  const { port } = await serve({ methods: demoMethods(services) });
  const connection = await connected(port, { limits: { maxReceiveBytes: 16_000_000 } });
  /** The answers to questions on one stream. */
  const reflect = async (version: string, ...asked: Ask[]): Promise<ServerReflectionResponse["messageResponse"][]> => {
    const talk = new Conversation(connection, { path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo` });
    for (const each of asked) talk.call.write(toBinary(ServerReflectionRequestSchema, create(ServerReflectionRequestSchema, each)));
    talk.call.halfClose();
    await until("the questions are answered", () => talk.result !== undefined);
    expect(talk.result?.status.code).toBe(0);
    return talk.messages.map((bytes) => fromBinary(ServerReflectionResponseSchema, bytes).messageResponse);
  };
  return { health, connection, reflect };
}

test.each(["v1", "v1alpha"])("%s lists the services it was given, and answers question after question on one stream", async (version) => {
  const { reflect } = await started();
  const [first, second, third] = await reflect(
    version,
    { messageRequest: { case: "listServices", value: "" } },
    { messageRequest: { case: "fileByFilename", value: "no/such.proto" } },
    {},
  );
  expect(first).toMatchObject({ case: "listServicesResponse", value: { service: NAMES.map((name) => ({ name })) } });
  expect(second).toMatchObject({ case: "errorResponse", value: { errorCode: 5, errorMessage: "not found: no/such.proto" } });
  expect(third).toMatchObject({ case: "errorResponse", value: { errorCode: 3 } });
});

test("the file of a symbol comes with all that it needs, so that its types can be built", async () => {
  const { reflect } = await started();
  for (const symbol of [
    "waymark.discovery.v1.DiscoveryService",
    "waymark.discovery.v1.DiscoveryService.CatalogQuery",
    "waymark.discovery.v1.CatalogQueryRequest",
    "waymark.discovery.v1.CatalogQueryRequest.namespace",
    "waymark.catalog.v1.EntryKind",
    "waymark.catalog.v1.ENTRY_KIND_SERVICE",
    "waymark.options.v1.access",
  ]) {
    const [answer] = await reflect("v1", { messageRequest: { case: "fileContainingSymbol", value: symbol } });
    if (answer?.case !== "fileDescriptorResponse") throw new Error(`${symbol}: ${JSON.stringify(answer)}`);
    const file = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
    const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: inOrder(file) }));
    expect([...registry].length).toBeGreaterThan(0);
  }
});

/** Imports before the files that import them; fails when one did not come. */
function inOrder(files: readonly FileDescriptorProto[]): FileDescriptorProto[] {
  const done: FileDescriptorProto[] = [];
  while (done.length < files.length) {
    const next = files.find((file) => !done.includes(file) && file.dependency.every((name) => done.some((other) => other.name === name)));
    if (next === undefined) throw new Error("a file is missing");
    done.push(next);
  }
  return done;
}

test("extensions are found by the message they extend and their number", async () => {
  const { reflect } = await started();
  const containingType = "google.protobuf.MethodOptions";
  const [numbers, file, none, unknown] = await reflect(
    "v1",
    { messageRequest: { case: "allExtensionNumbersOfType", value: containingType } },
    { messageRequest: { case: "fileContainingExtension", value: { containingType, extensionNumber: 51_742 } } },
    { messageRequest: { case: "fileContainingExtension", value: { containingType, extensionNumber: 1 } } },
    { messageRequest: { case: "allExtensionNumbersOfType", value: "no.Such" } },
  );
  expect(numbers).toMatchObject({ case: "allExtensionNumbersResponse", value: { extensionNumber: [51_742, 51_743] } });
  expect(file?.case).toBe("fileDescriptorResponse");
  expect([none, unknown]).toMatchObject([
    { case: "errorResponse", value: { errorCode: 5 } },
    { case: "errorResponse", value: { errorCode: 5 } },
  ]);
});

test("a health watch over the wire is told of every change", async () => {
  const { health, connection } = await started();
  const watch = new Conversation(connection, { path: "/grpc.health.v1.Health/Watch" });
  watch.call.halfClose(toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, { service: "" })));
  const statuses = () => watch.messages.map((bytes) => fromBinary(HealthCheckResponseSchema, bytes).status);
  await until("the first status came", () => statuses().length === 1);
  health.setServing(true);
  await until("the second came", () => statuses().length === 2);
  expect(statuses()).toEqual([2, 1]);
  watch.call.cancel();
});
