/** What is refused of another node's messages is what fabric.proto refuses: protovalidate judges the same messages. */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type LinkFrameSchema, LinkRequestSchema, ProbeIndirectRequestSchema } from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { decodeCallRequest } from "../../../src/fabric/wire/call-codec.ts";
import { decodeLinkFrame } from "../../../src/fabric/wire/codec.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { runs } from "../../fakes/effort.ts";

const validator = createValidator();

/** Mostly the first, so that one field alone is wrong; else within the bounds, at both ends of them, or beyond. */
function mostly<T>(usual: T, ...others: readonly T[]): fc.Arbitrary<T> {
  return fc.oneof({ weight: 20, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constantFrom(...others) });
}

const name = mostly("n1", "x".repeat(64), "x".repeat(65), "", "a b", "ä");
const printable = mostly("v1", "", "~ ".repeat(32), "~ ".repeat(33), "\n");
const address = mostly("h:1", "[::1]:65535", "", "h", "a b:1", `${"x".repeat(300)}:1`);
const number = mostly(7n, 0n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 64n - 1n);
const origin = fc.option(fc.record({ nodeId: name, generation: number, boot: name }), { nil: undefined, freq: 20 });
const names = mostly(["n"], [], ["n", ""], ["a b"], ...[64, 65, 256, 257].map((count) => new Array<string>(count).fill("n")));
const checksum = mostly("ab".repeat(32), "", "AB".repeat(32), "ab");

const hello = fc
  .record(
    {
      origin,
      clusterId: name,
      region: name,
      zone: name,
      address,
      version: printable,
      clusterToken: printable,
      policyFrom: names,
      borderTo: mostly("c2", "", "x".repeat(65), "a b"),
      protocolVersions: mostly([1], new Array<number>(64).fill(1), new Array<number>(65).fill(1)),
    },
    { noNullPrototype: true },
  )
  .map(({ origin: of, ...rest }) => ({ ...rest, ...(of !== undefined && { origin: of }) }));
const head = fc.record({ number, hlc: mostly(1n, 2n ** 53n), nodeId: name, checksum }, { noNullPrototype: true });

const counted = mostly(7n, 0n, 2n ** 52n, 2n ** 52n + 1n);
const anyBytes = (max: number) => mostly(max, 0, max + 1).map((length) => new Uint8Array(length));
const sealed = fc.record({ signedText: anyBytes(32_000), signature: anyBytes(64), hops: mostly(0, 8, 9) }, { noNullPrototype: true });
const sourceAge = fc.record({ sourceCluster: name, version: counted, ageMs: number }, { noNullPrototype: true });
const pattern = mostly("svc.*", "", "*", "x".repeat(242), "x".repeat(243), "ä", "\n");
const reach = fc.record({ hops: mostly(1, 0, 7, 8), regions: names, patterns: pattern.map((one) => [one]) }, { noNullPrototype: true });
const have = fc.record({ bucket: mostly(0, 255, 256), version: counted });

const frames: fc.Arbitrary<NonNullable<MessageInitShape<typeof LinkFrameSchema>["frame"]>> = fc.oneof(
  hello.map((value) => ({ case: "hello" as const, value })),
  head.map((value) => ({ case: "policy" as const, value: { head: value } })),
  names.map((nodeIds) => ({ case: "linked" as const, value: { nodeIds } })),
  fc.array(number, { maxLength: 3 }).map((seqs) => ({ case: "handOver" as const, value: { seqs } })),
  sourceAge.map((one) => ({ case: "sourceAges" as const, value: { sources: [one] } })),
  names.map((nodeIds) => ({ case: "summaries" as const, value: { space: { case: "linked" as const, value: { nodeIds } } } })),
  fc
    .oneof(
      fc
        .tuple(pattern, names, fc.array(reach, { maxLength: 2 }))
        .map(([one, directSources, its]) => ({ case: "rules" as const, value: { exports: [one], directSources, reach: its } })),
      sealed.map((one) => ({ case: "batch" as const, value: { beacons: [one], beaconAgesMs: [1] } })),
      have.map(({ bucket, version }) => ({ case: "have" as const, value: { buckets: [bucket], hashes: [1n], versions: [version] } })),
    )
    .map((border) => ({ case: "border" as const, value: { border } })),
);

/** Whether it breaks a rule of the contract, and whether we refuse it. */
function verdicts<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>, read: (bytes: Uint8Array) => unknown) {
  const message = create(schema, init);
  let isRefused = false;
  try {
    read(toBinary(schema, message));
  } catch (error) {
    expect(error).toBeInstanceOf(WaymarkError);
    isRefused = true;
  }
  return { isRefused, isBroken: validator.validate(schema, message).kind !== "valid" };
}

test("a frame is refused exactly where it breaks a rule of the contract", () => {
  const seen = new Set<boolean>();
  fc.assert(
    fc.property(frames, (frame) => {
      const { isRefused, isBroken } = verdicts(LinkRequestSchema, { frame: { frame } }, decodeLinkFrame);
      expect(isRefused).toBe(isBroken);
      seen.add(isRefused);
    }),
    { numRuns: runs(500) },
  );
  expect(seen.size).toBe(2);
});

test("a call is refused exactly where it breaks a rule of the contract", () => {
  const labels = mostly<Record<string, string>>({ rack: "r1" }, {}, { "a b": "" }, { a: "x".repeat(256) }, { a: "x".repeat(257) });
  const member = fc.record(
    {
      nodeId: name,
      status: fc.constantFrom("alive", "left"),
      incarnation: number,
      generation: number,
      address,
      clusterId: name,
      region: name,
      zone: name,
      version: printable,
      roles: names,
      labels,
      accuser: name,
    },
    { noNullPrototype: true },
  );
  const timeout = mostly<{ seconds?: bigint; nanos?: number }>(
    { seconds: 1n },
    { nanos: 5_000_000 },
    { seconds: 60n },
    {},
    { seconds: 61n },
    { seconds: -1n },
  );
  const call = fc.record({ origin, targetNodeId: name, targetAddress: address, timeout, updates: fc.array(member, { maxLength: 1 }) });
  const seen = new Set<boolean>();
  fc.assert(
    fc.property(call, ({ origin: of, ...rest }) => {
      const init = { ...rest, ...(of !== undefined && { origin: of }) };
      const { isRefused, isBroken } = verdicts(ProbeIndirectRequestSchema, init, (bytes) => decodeCallRequest("probeIndirect", bytes));
      expect(isRefused).toBe(isBroken);
      seen.add(isRefused);
    }),
    { numRuns: runs(500) },
  );
  expect(seen.size).toBe(2);
});
