/** Bytes between nodes: what is written is read, whatever else comes is refused by name, and nothing but a refusal is thrown. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type LinkFrameSchema,
  LinkRequestSchema,
  LinkResponseSchema,
  ProbeIndirectRequestSchema,
  ProbeRequestSchema,
  PushPullRequestSchema,
} from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { decodeCallRequest, decodeCallResponse, encodeCallRequest, encodeCallResponse } from "../../../src/fabric/wire/call-codec.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../../../src/fabric/wire/codec.ts";
import type { LinkFrame } from "../../../src/fabric/wire/messages.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { runs } from "../../fakes/effort.ts";
import { anyFrame, anyRequest, anyResponse } from "../../fakes/fabric-messages.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";

const KINDS = ["probe", "probeIndirect", "pushPull"] as const;

/** Every kind of frame that is written. The compiler asks for a new one here. */
const FRAME_KINDS: Readonly<Record<Exclude<LinkFrame["kind"], "unknown">, true>> = {
  hello: true,
  goodbye: true,
  vector: true,
  records: true,
  linked: true,
  digests: true,
  handOver: true,
  policyHead: true,
  policyWanted: true,
  policySettled: true,
  policyPart: true,
  summaries: true,
  sourceAges: true,
  borderRules: true,
  borderBatch: true,
  borderDigest: true,
  borderHave: true,
};

function bytesOf(frame: MessageInitShape<typeof LinkFrameSchema>["frame"]): Uint8Array {
  return toBinary(LinkRequestSchema, create(LinkRequestSchema, { frame: { frame: frame ?? { case: undefined } } }));
}

function withoutRecords(frame: LinkFrame): LinkFrame {
  if (frame.kind === "records") return { ...frame, frame: { ...frame.frame, records: [] } };
  if (frame.kind !== "summaries" || frame.frame.kind !== "records") return frame;
  return { ...frame, frame: { ...frame.frame, frame: { ...frame.frame.frame, records: [] } } };
}

/** Not a Buffer: its views would be Buffers too, and unlike what was sent. */
function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Runs it; what it throws must be a refusal. */
function expectReadOrRefused(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(WaymarkError);
    expect((error as WaymarkError).reason).toBe("invalid_argument");
  }
}

test("every kind of frame is drawn by the tests below", () => {
  const drawn = new Set(fc.sample(anyFrame, 1000).map(({ kind }) => kind));
  expect(drawn).toEqual(new Set(Object.keys(FRAME_KINDS)));
});

describe("what is written is read", () => {
  test("frames", () => {
    fc.assert(
      fc.property(anyFrame, (frame) => {
        expect(decodeLinkFrame(encodeLinkFrame(frame))).toEqual(frame);
      }),
    );
  });

  test("requests", () => {
    fc.assert(
      fc.property(anyRequest, (request) => {
        expect(decodeCallRequest(request.kind, encodeCallRequest(request))).toEqual(request);
      }),
    );
  });

  test("responses", () => {
    fc.assert(
      fc.property(anyResponse, (response) => {
        expect(decodeCallResponse(response.kind, encodeCallResponse(response))).toEqual(response);
      }),
    );
  });

  test("both directions of a link write the same bytes, which protobuf-es would write too", () => {
    fc.assert(
      fc.property(anyFrame, (frame) => {
        // Made-up records are no messages.
        const bytes = encodeLinkFrame(withoutRecords(frame));
        expect(toBinary(LinkRequestSchema, fromBinary(LinkRequestSchema, bytes))).toEqual(new Uint8Array(bytes));
        expect(toBinary(LinkResponseSchema, fromBinary(LinkResponseSchema, bytes))).toEqual(new Uint8Array(bytes));
      }),
    );
  });
});

describe("a peer of another version", () => {
  test("a frame of a kind from the future is unknown, and so is an empty one", () => {
    const inner = Buffer.from("a21f03010203", "hex"); // Field 500, three bytes.
    expect(decodeLinkFrame(Buffer.concat([Buffer.of(0x0a, inner.length), inner]))).toEqual({ kind: "unknown" });
    expect(decodeLinkFrame(Buffer.of(0x0a, 0))).toEqual({ kind: "unknown" });
    expect(decodeLinkFrame(encodeLinkFrame({ kind: "unknown" }))).toEqual({ kind: "unknown" });
    // A field of it that this version does not know.
    for (const tag of [0x4a, 0x5a]) expect(decodeLinkFrame(Buffer.of(0x0a, 5, tag, 3, 0x7a, 1, 7))).toEqual({ kind: "unknown" });
  });

  test("a field from the future beside the frame is passed over, also where there is no frame", () => {
    const later = Buffer.of(0xa2, 0x1f, 3, 1, 2, 3); // Field 500.
    expect(decodeLinkFrame(later)).toEqual({ kind: "unknown" });
    expect(decodeLinkFrame(Buffer.concat([later, encodeLinkFrame({ kind: "goodbye", reason: "leave", detail: "" })]))).toMatchObject({
      kind: "goodbye",
    });
  });

  test("fields from the future are skipped, on every level", () => {
    fc.assert(
      fc.property(anyFrame, (frame) => {
        const later = Buffer.of(0x98, 0x06, 1, 0x9a, 0x06, 2, 7, 7); // Fields 99 as a number and as bytes.
        expect(decodeLinkFrame(joined(encodeLinkFrame(frame), later))).toEqual(frame);
      }),
    );
    fc.assert(
      fc.property(anyRequest, (request) => {
        const later = Buffer.of(0x98, 0x06, 1);
        expect(decodeCallRequest(request.kind, joined(encodeCallRequest(request), later))).toEqual(request);
      }),
    );
  });

  test("a field of a reserved number, which another version writes, is skipped", () => {
    const [hello] = fc.sample(
      anyFrame.filter(({ kind }) => kind === "hello"),
      1,
    );
    if (hello === undefined) throw new Error("no hello was drawn");
    const message = fromBinary(LinkRequestSchema, encodeLinkFrame(hello));
    if (message.frame?.frame.case !== "hello") throw new Error("a hello was written as something else");
    // The capabilities, until the number was reserved.
    message.frame.frame.value.$unknown = [{ no: 5, wireType: 2, data: Uint8Array.of(1, 0x62) }];
    expect(decodeLinkFrame(toBinary(LinkRequestSchema, message))).toEqual(hello);
  });

  test("a member of a status from the future is passed over, the others are not; a score beyond ours is our worst", () => {
    const member = { nodeId: "n1", status: "alive", address: "h:1", clusterId: "c", region: "r", healthScore: 12 };
    const updates = [{ ...member, status: "moonlit" }, member];
    const bytes = toBinary(ProbeRequestSchema, create(ProbeRequestSchema, { origin: ORIGIN, updates }));
    expect(decodeCallRequest("probe", bytes)).toMatchObject({ updates: [{ nodeId: "n1", status: "alive", healthScore: 8 }] });
  });

  test("a farewell for a reason from the future is one of the mildest", () => {
    const bytes = bytesOf({ case: "goodbye", value: { reason: "eclipse", detail: "the\u001b[31m sun" } });
    expect(decodeLinkFrame(bytes)).toEqual({ kind: "goodbye", reason: "not_needed", detail: "eclipse the?[31m sun" });
  });
});

/** So many of one thing. */
function many<T>(count: number, item: T): T[] {
  return Array.from({ length: count }, () => item);
}

const ORIGIN = { nodeId: "n1", generation: 1n };
const HELLO = { origin: ORIGIN, clusterId: "c1", region: "eu", address: "127.0.0.1:1" };
const HEAD = { number: 1n, hlc: 1n, nodeId: "n1", checksum: "" };

describe("a bad field is refused by its name", () => {
  test.each<{ field: string; frame: MessageInitShape<typeof LinkFrameSchema>["frame"] }>([
    { field: "hello.origin.node_id", frame: { case: "hello", value: {} } },
    { field: "hello.origin.node_id", frame: { case: "hello", value: { ...HELLO, origin: { nodeId: "ä" } } } },
    { field: "hello.origin.generation", frame: { case: "hello", value: { ...HELLO, origin: { nodeId: "n", generation: 2n ** 53n } } } },
    { field: "hello.cluster_id", frame: { case: "hello", value: { ...HELLO, clusterId: "x".repeat(65) } } },
    { field: "hello.region", frame: { case: "hello", value: { ...HELLO, region: "" } } },
    { field: "hello.zone", frame: { case: "hello", value: { ...HELLO, zone: "a b" } } },
    { field: "hello.address", frame: { case: "hello", value: { ...HELLO, address: "127.0.0.1" } } },
    { field: "hello.address", frame: { case: "hello", value: { ...HELLO, address: "[::1]:65536" } } },
    { field: "hello.version", frame: { case: "hello", value: { ...HELLO, version: "1\n" } } },
    { field: "HelloFrame.protocol_versions", frame: { case: "hello", value: { ...HELLO, protocolVersions: many(65, 1) } } },
    { field: "hello.policy_from[0]", frame: { case: "hello", value: { ...HELLO, policyFrom: ["a b"] } } },
    { field: "hello.cluster_token", frame: { case: "hello", value: { ...HELLO, clusterToken: "t".repeat(1_025) } } },
    { field: "VectorFrame.entries", frame: { case: "vector", value: { entries: many(10_001, { origin: ORIGIN }) } } },
    { field: "vector.entries[0].origin.node_id", frame: { case: "vector", value: { entries: [{}] } } },
    { field: "vector.entries[0].seq", frame: { case: "vector", value: { entries: [{ origin: ORIGIN, seq: 2n ** 60n }] } } },
    { field: "VectorFrame.hashes", frame: { case: "vector", value: { hashes: many(10_001, 1), seqs: many(10_001, 1n) } } },
    { field: "vector.seqs", frame: { case: "vector", value: { hashes: [1, 2], seqs: [1n] } } },
    { field: "vector.seqs[0]", frame: { case: "vector", value: { hashes: [1], seqs: [2n ** 60n] } } },
    { field: "records.origin.node_id", frame: { case: "records", value: { clusterId: "c", region: "r" } } },
    { field: "records.cluster_id", frame: { case: "records", value: { origin: ORIGIN, region: "r" } } },
    { field: "records.region", frame: { case: "records", value: { origin: ORIGIN, clusterId: "c" } } },
    {
      field: "records.through",
      frame: { case: "records", value: { origin: ORIGIN, clusterId: "c", region: "r", after: 2n, through: 1n } },
    },
    {
      field: "RecordsFrame.records",
      frame: { case: "records", value: { origin: ORIGIN, clusterId: "c", region: "r", records: many(16_385, {}) } },
    },
    { field: "LinkedFrame.node_ids", frame: { case: "linked", value: { nodeIds: many(257, "n") } } },
    { field: "DigestFrame.origins", frame: { case: "digests", value: { origins: many(257, { origin: ORIGIN }) } } },
    { field: "policy", frame: { case: "policy", value: {} } },
    { field: "policy.head.checksum", frame: { case: "policy", value: { head: { ...HEAD, checksum: "00" } } } },
    { field: "policy.size_bytes", frame: { case: "policy", value: { head: HEAD, sizeBytes: 2n ** 30n } } },
    { field: "policy.part", frame: { case: "policy", value: { head: HEAD, sizeBytes: 3n, offset: 2n, part: Uint8Array.of(1, 2) } } },
    {
      field: "border.batch.summaries[0].signed_text",
      frame: { case: "border", value: { border: { case: "batch", value: { summaries: [{ signedText: new Uint8Array(32_001) }] } } } },
    },
    { field: "border.batch.keys[0].hops", frame: { case: "border", value: { border: { case: "batch", value: { keys: [{ hops: 9 }] } } } } },
    {
      field: "border.batch",
      frame: { case: "border", value: { border: { case: "batch", value: { beacons: many(9, { signedText: new Uint8Array(32_000) }) } } } },
    },
    {
      field: "BorderBatch.summaries",
      frame: { case: "border", value: { border: { case: "batch", value: { summaries: many(1_025, {}) } } } },
    },
    { field: "BorderBatch.beacons", frame: { case: "border", value: { border: { case: "batch", value: { beacons: many(257, {}) } } } } },
    {
      field: "border.batch.beacon_ages_ms",
      frame: { case: "border", value: { border: { case: "batch", value: { beacons: many(2, {}), beaconAgesMs: [1] } } } },
    },
    { field: "BorderBatch.keys", frame: { case: "border", value: { border: { case: "batch", value: { keys: many(257, {}) } } } } },
    { field: "BorderRules.exports", frame: { case: "border", value: { border: { case: "rules", value: { exports: many(1_025, "a") } } } } },
    {
      field: "BorderRules.reach",
      frame: { case: "border", value: { border: { case: "rules", value: { reach: many(65, { hops: 1 }) } } } },
    },
    {
      field: "Reach.regions",
      frame: { case: "border", value: { border: { case: "rules", value: { reach: [{ hops: 1, regions: many(65, "a") }] } } } },
    },
    {
      field: "Reach.patterns",
      frame: { case: "border", value: { border: { case: "rules", value: { reach: [{ hops: 1, patterns: many(65, "a") }] } } } },
    },
    {
      field: "border.rules.reach[0].hops",
      frame: { case: "border", value: { border: { case: "rules", value: { reach: [{ hops: 0 }] } } } },
    },
    {
      field: "border.rules.reach[0].hops",
      frame: { case: "border", value: { border: { case: "rules", value: { reach: [{ hops: 8 }] } } } },
    },
    {
      field: "BorderRules.direct_sources",
      frame: { case: "border", value: { border: { case: "rules", value: { directSources: many(257, "a") } } } },
    },
    { field: "border.digest.buckets", frame: { case: "border", value: { border: { case: "digest", value: { buckets: many(255, 1n) } } } } },
    { field: "BorderDigest.buckets", frame: { case: "border", value: { border: { case: "digest", value: { buckets: many(257, 1n) } } } } },
    { field: "BorderHave.buckets", frame: { case: "border", value: { border: { case: "have", value: { buckets: many(257, 1) } } } } },
    { field: "BorderHave.hashes", frame: { case: "border", value: { border: { case: "have", value: { hashes: many(16_385, 1n) } } } } },
    { field: "BorderHave.versions", frame: { case: "border", value: { border: { case: "have", value: { versions: many(16_385, 1n) } } } } },
    {
      field: "border.have.versions",
      frame: { case: "border", value: { border: { case: "have", value: { hashes: [1n, 2n], versions: [1n] } } } },
    },
    { field: "SourceAgesFrame.sources", frame: { case: "sourceAges", value: { sources: many(257, { sourceCluster: "c" }) } } },
    {
      field: "source_ages.sources[0].version",
      frame: { case: "sourceAges", value: { sources: [{ sourceCluster: "c", version: 2n ** 53n }] } },
    },
    {
      field: "summaries.vector.entries[0].seq",
      frame: { case: "summaries", value: { space: { case: "vector", value: { entries: [{ origin: ORIGIN, seq: 2n ** 60n }] } } } },
    },
  ])("$field", ({ field, frame }) => {
    expect(() => decodeLinkFrame(bytesOf(frame))).toThrow(`invalid_argument: ${field}: `);
  });

  const MEMBER = { nodeId: "n1", status: "alive", address: "h:1", clusterId: "c", region: "r" };
  test.each([
    { field: "updates[0].node_id", member: { ...MEMBER, nodeId: "" } },
    { field: "updates[0].incarnation", member: { ...MEMBER, incarnation: 2n ** 63n } },
    { field: "updates[0].address", member: { ...MEMBER, address: "h:0" } },
    { field: "MemberUpdate.roles", member: { ...MEMBER, roles: many(65, "r") } },
    { field: 'updates[0].labels["a b"]', member: { ...MEMBER, labels: { "a b": "" } } },
    { field: 'updates[0].labels["a"]', member: { ...MEMBER, labels: { a: "x".repeat(257) } } },
    { field: "updates[0].labels", member: { ...MEMBER, labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ""])) } },
    { field: "updates[0].accuser", member: { ...MEMBER, accuser: "\n" } },
  ])("$field of a member", ({ field, member }) => {
    const bytes = toBinary(ProbeRequestSchema, create(ProbeRequestSchema, { origin: ORIGIN, updates: [member] }));
    expect(() => decodeCallRequest("probe", bytes)).toThrow(`invalid_argument: ${field}: `);
  });

  test("a push–pull of more members than a fabric has, before any of them is built", () => {
    const members = Array.from({ length: 10_001 }, () => ({}));
    const bytes = toBinary(PushPullRequestSchema, create(PushPullRequestSchema, { origin: ORIGIN, members }));
    expect(() => decodeCallRequest("pushPull", bytes)).toThrow("invalid_argument: PushPullRequest.members: has more than 10000 items");
  });

  test.each([{ seconds: 0n }, { seconds: -1n }, { seconds: 61n }, { seconds: 2n ** 62n }])("a wait of $seconds s", (timeout) => {
    const target = { origin: ORIGIN, targetNodeId: "n2", targetAddress: "h:1" };
    const bytes = toBinary(ProbeIndirectRequestSchema, create(ProbeIndirectRequestSchema, { ...target, timeout }));
    expect(() => decodeCallRequest("probeIndirect", bytes)).toThrow("invalid_argument: timeout: ");
  });

  test("two frames in one message", () => {
    const one = bytesOf({ case: "linked", value: {} });
    expect(() => decodeLinkFrame(Buffer.concat([one, one]))).toThrow("frame appears twice");
    const both = Buffer.of(0x0a, 4, 0x2a, 0, 0x12, 0);
    expect(() => decodeLinkFrame(both)).toThrow("frame appears twice");
    expect(() => decodeLinkFrame(new Uint8Array())).toThrow("invalid_argument: frame: is missing");
  });
});

describe("hostile bytes", () => {
  test("cut anywhere, or with bytes changed, a frame is read or refused", () => {
    fc.assert(
      fc.property(anyFrame, fc.nat(), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), (frame, cut, changes) => {
        const bytes = new Uint8Array(encodeLinkFrame(frame));
        expectReadOrRefused(() => decodeLinkFrame(bytes.subarray(0, cut % (bytes.length + 1))));
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        expectReadOrRefused(() => decodeLinkFrame(bytes));
      }),
    );
  });

  test("cut anywhere, or with bytes changed, a call is read or refused", () => {
    fc.assert(
      fc.property(anyRequest, fc.nat(), fc.nat(), fc.nat(255), (request, cut, at, value) => {
        const bytes = new Uint8Array(encodeCallRequest(request));
        expectReadOrRefused(() => decodeCallRequest(request.kind, bytes.subarray(0, cut % (bytes.length + 1))));
        bytes[at % bytes.length] = value;
        for (const kind of KINDS) expectReadOrRefused(() => [decodeCallRequest(kind, bytes), decodeCallResponse(kind, bytes)]);
      }),
    );
  });

  test("garbage is refused, or happens to be a message", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expectReadOrRefused(() => decodeLinkFrame(bytes));
        expectReadOrRefused(() => decodeLinkFrame(Buffer.concat([Buffer.of(0x0a, bytes.length & 127), bytes])));
        for (const kind of KINDS) expectReadOrRefused(() => [decodeCallRequest(kind, bytes), decodeCallResponse(kind, bytes)]);
      }),
      { numRuns: runs(500) },
    );
  });

  test("groups nested a million deep do not end the process", () => {
    const groups = Buffer.alloc(1_000_000, 0x0b);
    const length = Buffer.of(0xc0, 0x84, 0x3d);
    for (const tag of [0x0a, 0x12, 0x1a, 0x22, 0x3a]) {
      const frame = Buffer.concat([Buffer.of(tag), length, groups]);
      expectReadOrRefused(() => decodeLinkFrame(Buffer.concat([Buffer.of(0x0a, 0xc4, 0x84, 0x3d), frame])));
      for (const kind of KINDS) expectReadOrRefused(() => decodeCallRequest(kind, frame));
    }
  });
});

test("a caller without a node id, or without anything of itself, is refused by its field", () => {
  const bytesFrom = (origin?: { nodeId: string; generation: bigint }) =>
    toBinary(ProbeRequestSchema, create(ProbeRequestSchema, { ...(origin !== undefined && { origin }) }));
  expect(() => decodeCallRequest("probe", bytesFrom())).toThrow("invalid_argument: origin.node_id: is required");
  expect(() => decodeCallRequest("probe", bytesFrom({ nodeId: "", generation: 3n }))).toThrow(
    "invalid_argument: origin.node_id: is required",
  );
  expect(decodeCallRequest("probe", bytesFrom({ nodeId: "a", generation: 3n }))).toMatchObject({ from: { nodeId: "a", generation: 3 } });
});

test("orders about maintenance and their answers are read back, and what breaks the contract is refused", () => {
  const key = { kind: 1, namespace: "svc", name: "web", instanceId: "1", clusterId: "c1" };
  const order = { keys: [key], isOn: true, reason: "new disks", untilMs: 1, principal: "ann", isForAll: false };
  const request = { kind: "maintain", from: { ...nodeRef("b"), clusterId: "c1" }, targetNodeId: "a", ...order } as const;
  expect(decodeCallRequest("maintain", encodeCallRequest(request))).toMatchObject(request);
  const refusals = [{ index: 0, reason: "not_found", detail: "no\u001b such" }];
  const bytes = encodeCallResponse({ kind: "maintain", from: nodeRef("b"), changed: 2, refusals });
  expect(decodeCallResponse("maintain", bytes)).toMatchObject({ changed: 2, refusals: [{ index: 0, detail: "no? such" }] });
  const bad = [
    { keys: [{ ...key, name: "a b" }], says: "keys[0].name" },
    { reason: "é".repeat(129), says: "reason" },
    { targetNodeId: "a b", says: "target_node_id" },
    { keys: Array.from({ length: 1001 }, () => key), says: "MaintainRequest.keys" },
    { principal: "x".repeat(513), says: "principal" },
  ];
  for (const { says, ...said } of bad)
    expect(() => decodeCallRequest("maintain", encodeCallRequest({ ...request, ...said }))).toThrow(says);
});
