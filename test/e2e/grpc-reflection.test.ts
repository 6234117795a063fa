/** Reflection and health as grpcurl uses them: every service is listed, and every file it needs can be had and read. */
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
} from "../../gen/grpc/health/v1/health_pb.js";
import { ServerReflectionRequestSchema, ServerReflectionResponseSchema } from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { ownDescriptors } from "../../src/node/listeners.io.ts";
import { type GrpcListener, startGrpcListener } from "../../src/server/grpc-listener.io.ts";
import { listServices } from "../../src/services/service-table.ts";
import { demoChain, demoService } from "../fakes/demo-service.ts";
import { collected, RawClient } from "../fakes/grpc-client.ts";
import { GRPC_LIMITS } from "../fakes/listener-limits.ts";
import { until } from "../fakes/until.ts";

const SERVICES = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  "waymark.control.v1.AuditService",
  "waymark.control.v1.BootstrapService",
  "waymark.control.v1.ConfigService",
  "waymark.control.v1.CredentialService",
  "waymark.control.v1.LeadershipService",
  "waymark.control.v1.PeerService",
  "waymark.control.v1.RebalanceService",
  "waymark.control.v1.ShardService",
  "waymark.discovery.v1.DiscoveryService",
  "waymark.dns.v1.DnsService",
  "waymark.policy.v1.PolicyService",
  "waymark.resolver.v1.ResolverService",
];

let listener: GrpcListener;
const clients: RawClient[] = [];

function start(descriptors: Uint8Array | undefined): Promise<GrpcListener> {
  const served = listServices([demoService().service], descriptors);
  const log = { info: () => {}, warn: () => {} };
  return startGrpcListener({ host: "127.0.0.1", port: 0, ...served, chain: demoChain().chain, limits: GRPC_LIMITS, log });
}

beforeAll(async () => {
  listener = await start(ownDescriptors());
  listener.setServing(true);
});

afterAll(async () => {
  for (const each of clients) each.close();
  await listener.stop(200);
});

function client(service: string): RawClient {
  const made = new RawClient(listener.acceptor.address, { service });
  clients.push(made);
  return made;
}

type Ask = { readonly case: "listServices" | "fileContainingSymbol" | "fileByFilename"; readonly value: string };

/** One question on a stream of its own; the two versions differ only in their name. */
async function reflect(version: "v1" | "v1alpha", messageRequest: Ask) {
  const stream = client(`grpc.reflection.${version}.ServerReflection`).bidi("ServerReflectionInfo");
  const outcome = collected(stream);
  stream.write(Buffer.from(toBinary(ServerReflectionRequestSchema, create(ServerReflectionRequestSchema, { messageRequest }))));
  stream.end();
  const [bytes = Buffer.alloc(0)] = (await outcome).messages;
  return fromBinary(ServerReflectionResponseSchema, bytes).messageResponse;
}

/** All files a symbol needs, asked for by name until none is missing, as grpcurl does. */
async function filesFor(symbol: string) {
  const files = new Map<string, ReturnType<typeof decodeFile>>();
  const take = (answer: Awaited<ReturnType<typeof reflect>>) => {
    if (answer.case !== "fileDescriptorResponse") throw new Error(`answered ${answer.case} for ${symbol}`);
    for (const file of answer.value.fileDescriptorProto.map(decodeFile)) files.set(file.name, file);
  };
  take(await reflect("v1", { case: "fileContainingSymbol", value: symbol }));
  for (;;) {
    const missing = [...files.values()].flatMap((file) => file.dependency).find((name) => !files.has(name));
    if (missing === undefined) return [...files.values()];
    take(await reflect("v1", { case: "fileByFilename", value: missing }));
  }
}

const decodeFile = (bytes: Uint8Array) => fromBinary(FileDescriptorProtoSchema, bytes);

test.each(["v1", "v1alpha"] as const)("%s lists every service served, itself and health included, and no other", async (version) => {
  const answer = await reflect(version, { case: "listServices", value: "*" });
  if (answer.case !== "listServicesResponse") throw new Error(`answered ${answer.case}`);
  expect(answer.value.service.map((service) => service.name).toSorted()).toEqual(SERVICES);
});

test.each(SERVICES)("%s is described whole: its files build, with every method", async (name) => {
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: inOrder(await filesFor(name)) }));
  expect(registry.getService(name)?.methods.length).toBeGreaterThan(0);
});

test("a symbol that is not there is said to be not found", async () => {
  const answer = await reflect("v1", { case: "fileContainingSymbol", value: "no.such.Thing" });
  expect(answer).toMatchObject({ case: "errorResponse", value: { errorCode: 5 } });
});

/** Imports before those who import them. */
function inOrder(files: Awaited<ReturnType<typeof filesFor>>) {
  const done: typeof files = [];
  while (done.length < files.length) {
    const next = files.find((file) => !done.includes(file) && file.dependency.every((name) => done.some((other) => other.name === name)));
    if (next === undefined) throw new Error("files import each other in a circle, or one is missing");
    done.push(next);
  }
  return done;
}

const checkOf = (service: string) => toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, { service }));
const statusIn = (bytes: Buffer | undefined) => fromBinary(HealthCheckResponseSchema, bytes ?? Buffer.alloc(0)).status;

test("health lists its services, and watches one", async () => {
  const health = client("grpc.health.v1.Health");
  const [listed = Buffer.alloc(0)] = (await health.unary("List", new Uint8Array())).messages;
  expect(Object.keys(fromBinary(HealthListResponseSchema, listed).statuses).toSorted()).toEqual([
    "",
    ...SERVICES.filter((name) => name.startsWith("waymark.")),
  ]);

  const seen: Buffer[] = [];
  const watching = health.serverStream("Watch", checkOf(""));
  watching.on("error", () => {});
  watching.on("data", (bytes: Buffer) => void seen.push(bytes));
  await until("the first status", () => seen.length === 1);
  listener.setServing(false);
  await until("the second status", () => seen.length === 2);
  listener.setServing(true);
  watching.cancel();
  expect(seen.map(statusIn)).toEqual([HealthCheckResponse_ServingStatus.SERVING, HealthCheckResponse_ServingStatus.NOT_SERVING]);
});

test("a watch on an unknown service says so and stays open", async () => {
  const seen: Buffer[] = [];
  const watching = client("grpc.health.v1.Health").serverStream("Watch", checkOf("no.such.Service"));
  watching.on("error", () => {});
  watching.on("data", (bytes: Buffer) => void seen.push(bytes));
  await until("the status", () => seen.length === 1);
  expect(statusIn(seen[0])).toBe(HealthCheckResponse_ServingStatus.SERVICE_UNKNOWN);
  watching.cancel();
});

test.each([
  { name: "half a surrogate pair", bytes: Buffer.of(0x0a, 3, 0xed, 0xa0, 0x80) },
  { name: "a truncated string", bytes: Buffer.of(0x0a, 50, 65) },
  { name: "line breaks and a percent sign", bytes: Buffer.from("\n\x06%0d\r\n%", "latin1") },
  { name: "a name of 100 kB", bytes: Buffer.concat([Buffer.of(0x0a, 0xa0, 0x8d, 0x06), Buffer.alloc(100_000, "x")]) },
])("a health check for $name is refused or answered, and the server goes on", async ({ bytes }) => {
  const health = client("grpc.health.v1.Health");
  expect((await health.unary("Check", bytes, { call: { deadline: Date.now() + 3_000 } })).code).not.toBe(0);
  // From another connection: the answer repeats the name, and 100 kB of it in a trailer is more than a client takes.
  expect((await client("grpc.health.v1.Health").unary("Check", checkOf(""))).code).toBe(0);
});

test("bytes that are no files of descriptors end the start", () => {
  expect(() => start(Uint8Array.of(0x0a, 5, 1))).toThrow("malformed protobuf");
});

test("files that cannot be read cost one call its answer, and are not read again", async () => {
  const broken = await start(Uint8Array.of(0x0a, 2, 0xff, 0xff));
  broken.setServing(true);
  const ask = async (service: string, method: string) => {
    const made = new RawClient(broken.acceptor.address, { service });
    clients.push(made);
    const stream = made.bidi(method);
    const outcome = collected(stream);
    stream.write(Buffer.alloc(0));
    stream.end();
    return (await outcome).code;
  };
  expect(await ask("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo")).toBe(13);
  expect(await ask("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo")).toBe(12);
  await broken.stop(200);
});
