/** What is read and written by hand of registrations and renewals means what protobuf-es reads in the same bytes. */
import { create, type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  KeepAliveRequestSchema,
  KeepAliveResponseSchema,
  RegisterRequestSchema,
  type RegisterResponse,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { anyMessage, DETAILS } from "../fakes/any-entry.ts";
import { startDiscovery } from "../fakes/discovery-service.ts";
import { runs } from "../fakes/effort.ts";

/** More than random bytes are taken for at once. */
const MANY_LEASES = 600;

let discovery: Awaited<ReturnType<typeof startDiscovery>>;

beforeAll(async () => {
  discovery = await startDiscovery();
});
afterAll(async () => discovery.stop());

/** What the service itself reads in the bytes of a request; undefined where it leaves them to protobuf-es. */
function readBy(rpc: "register" | "keepAlive", bytes: Uint8Array): Message | undefined {
  return discovery.service.handlers[rpc]?.read?.(bytes);
}

const anyDetail = fc.oneof(
  fc.constant({ case: undefined }),
  ...DETAILS.map((detail) => anyMessage(detail.message).map((value) => ({ case: detail.name, value }))),
);
const anyEntry = fc.tuple(anyMessage(EntrySchema), anyDetail).map(([fields, detail]) => ({ ...fields, detail }));
const registerRequests = fc
  .tuple(anyMessage(RegisterRequestSchema, ["entries"]), fc.array(anyEntry, { maxLength: 3 }))
  .map(([fields, entries]) => bytesOf(RegisterRequestSchema, { ...fields, entries }));
const keepAliveRequests = fc
  .array(fc.string({ minLength: 1, maxLength: 40 }), { maxLength: 20 })
  .map((leaseIds) => bytesOf(KeepAliveRequestSchema, { leaseIds }));

function bytesOf(desc: DescMessage, fields: object): Uint8Array {
  return toBinary(desc, create(desc, fields as never));
}

/** The bytes of the known fields, which are equal where the messages mean the same. */
function meaning(desc: DescMessage, message: object): Uint8Array {
  return toBinary(desc, create(desc, message as never), { writeUnknownFields: false });
}

/** What protobuf-es reads; undefined for bytes that it refuses. */
function library(desc: DescMessage, bytes: Uint8Array): Message | undefined {
  try {
    return fromBinary(desc, bytes);
  } catch {
    return undefined;
  }
}

const RPCS = [
  { rpc: "register", desc: RegisterRequestSchema, requests: registerRequests },
  { rpc: "keepAlive", desc: KeepAliveRequestSchema, requests: keepAliveRequests },
] as const;

test.each(RPCS)("a request of $rpc, also with changed bytes, is read as protobuf-es reads it, or left to it", ({ rpc, desc, requests }) => {
  const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 });
  fc.assert(
    fc.property(requests, changes, (bytes, changed) => {
      for (const [at, byte] of changed) if (bytes.length > 0) bytes[at % bytes.length] = byte;
      const known = readBy(rpc, bytes);
      if (known === undefined) return;
      const message = library(desc, bytes);
      expect(message).toBeDefined();
      expect(meaning(desc, known)).toEqual(meaning(desc, message ?? {}));
    }),
    { numRuns: runs(4000) },
  );
});

test("a request with entries of each kind is not left to protobuf-es", () => {
  const key = { namespace: "svc", name: "web", instanceId: "1" };
  const entries = DETAILS.map(({ name }) => ({ key, tags: ["blue"], metadata: { v: "1" }, detail: { case: name, value: {} } }));
  const bytes = bytesOf(RegisterRequestSchema, { entries, leaseId: "a/b", idempotencyKey: "once", staticLease: true });
  expect(meaning(RegisterRequestSchema, readBy("register", bytes) ?? {})).toEqual(bytes);
});

test("reports, a ttl that is there twice and a number of more than 31 bits are left to protobuf-es", () => {
  const report = { key: { namespace: "svc", name: "web", instanceId: "1" } };
  expect(readBy("keepAlive", bytesOf(KeepAliveRequestSchema, { leaseIds: ["a"], reports: [report] }))).toBeUndefined();
  const ttl = bytesOf(RegisterRequestSchema, { ttl: { seconds: 5n } });
  expect(readBy("register", ttl)).toMatchObject({ ttl: { seconds: 5 } });
  expect(readBy("register", new Uint8Array([...ttl, ...ttl]))).toBeUndefined();
  expect(readBy("register", bytesOf(RegisterRequestSchema, { entries: [{ load: { activeClients: 2 ** 31 } }] }))).toBeUndefined();
});

test("an answer to a renewal is what protobuf-es reads, whatever was answered before", async () => {
  const context = { caller: anonymousCaller("local", ""), time: discovery.now(), requestId: "" };
  const { register, keepAlive } = discovery.service.handlers;
  if (register?.kind !== "unary" || keepAlive?.kind !== "bidi_streaming") throw new Error("there are no such methods");
  const leased = async (seconds: bigint): Promise<string> => {
    const entries = [{ key: { namespace: "svc", name: "web", instanceId: `${seconds}` } }];
    const answer: unknown = await register.handle(create(RegisterRequestSchema, { entries, ttl: { seconds } }) as never, context);
    return (answer as RegisterResponse).leaseId;
  };
  const [long, short] = [await leased(60n), await leased(30n)];
  const answers: Uint8Array[] = [];
  const ports = { onceRoomy: () => {}, pause: () => {}, resume: () => {}, end: () => {}, fail: () => {} };
  const send = (answer: Message | Uint8Array) => answer instanceof Uint8Array && answers.push(answer) > 0;
  const stream = keepAlive.open({ ...ports, send }, context);
  const asked = [[long], [long], [long, "gone"], [short, "gone"], [short], ["gone"], [long, short], [long]];
  for (const leaseIds of asked) stream.message(create(KeepAliveRequestSchema, { leaseIds }) as never, discovery.now());
  const said = answers.map((bytes) => {
    const { ttl, expiredLeaseIds } = fromBinary(KeepAliveResponseSchema, bytes);
    return [ttl && Number(ttl.seconds), ...expiredLeaseIds];
  });
  expect(said).toEqual([[60], [60], [60, "gone"], [30, "gone"], [30], [undefined, "gone"], [30], [60]]);
});

test("no two leases have one id, however many are granted", async () => {
  const context = { caller: anonymousCaller("local", ""), time: discovery.now(), requestId: "" };
  const { register } = discovery.service.handlers;
  if (register?.kind !== "unary") throw new Error("there is no such method");
  const ids = new Set<string>();
  for (let i = 0; i < MANY_LEASES; i++) {
    const entries = [{ key: { namespace: "svc", name: "leased", instanceId: `${i}` } }];
    const answer: unknown = await register.handle(create(RegisterRequestSchema, { entries, ttl: { seconds: 60n } }) as never, context);
    ids.add((answer as RegisterResponse).leaseId);
  }
  expect(ids.size).toBe(MANY_LEASES);
});
