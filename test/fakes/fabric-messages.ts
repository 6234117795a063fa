/** Arbitrary messages between nodes, all of them well-formed. */
import fc from "fast-check";
import { decodeCallRequest, encodeCallRequest } from "../../src/fabric/wire/call-codec.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../../src/fabric/wire/codec.ts";
import type {
  FabricCallRequest,
  FabricCallResponse,
  LinkFrame,
  MemberUpdate,
  NodeRef,
  ProcessInstance,
  ReplicationFrame,
} from "../../src/fabric/wire/messages.ts";
import { GOODBYES } from "../../src/fabric/wire/messages.ts";
import { anyChar } from "./any-char.ts";

const anyId = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,64}$/);
const optionalId = fc.oneof(fc.constant(""), anyId);
const ids = fc.array(anyId, { maxLength: 4 });
const anyCount = fc.maxSafeNat().map((n) => Math.min(n, 2 ** 52));
const anyRef: fc.Arbitrary<NodeRef> = fc.record({ nodeId: anyId, generation: anyCount });
const anyAddress = fc
  .tuple(
    fc.constantFrom("127.0.0.1", "[::1]", "[fe80::1%eth0]", "node-1.example.org", "x".repeat(253)),
    fc.integer({ min: 1, max: 65_535 }),
  )
  .map(([host, port]) => `${host}:${port}`);
const anyVersion = fc.stringMatching(/^[ -~]{0,64}$/);
const versions = fc.array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), { maxLength: 4 });
const anyDigest = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const anyText = fc.string({ unit: anyChar, maxLength: 256 }).filter((text) => text.isWellFormed());
const labels = fc
  .dictionary(
    anyId.filter((key) => key.length < 64 && key !== "__proto__"),
    anyText,
    { maxKeys: 4, noNullPrototype: true },
  )
  .map((each) => ({ ...each }));

/** Some nodes say what their start is called, some what it follows too. */
const anyStart: fc.Arbitrary<ProcessInstance> = fc.record({ boot: anyId, bootBefore: anyId }, { requiredKeys: [], noNullPrototype: true });

const anyPlainUpdate = fc.record({
  nodeId: anyId,
  generation: anyCount,
  address: anyAddress,
  clusterId: anyId,
  region: anyId,
  zone: optionalId,
  version: anyVersion,
  protocolVersions: versions,
  transports: ids,
  roles: ids,
  labels,
  healthScore: fc.integer({ min: 0, max: 8 }),
  status: fc.constantFrom("alive", "suspect", "left", "dead"),
  incarnation: anyCount,
  accuser: optionalId,
});
const anyReach = fc.record({
  hops: fc.integer({ min: 1, max: 7 }),
  regions: ids,
  patterns: fc.array(fc.constantFrom("*", "svc.*", "svc.market"), { maxLength: 3 }),
});
const anyHeardRule = fc.record({
  clusterId: anyId,
  region: anyId,
  isHeard: fc.boolean(),
  hasLink: fc.boolean(),
  exports: fc.array(fc.stringMatching(/^[a-z][a-z.]{0,20}$/), { maxLength: 3 }),
  reached: fc.array(anyReach, { maxLength: 3 }),
});
const anyUpdate: fc.Arbitrary<MemberUpdate> = fc
  .tuple(
    anyPlainUpdate,
    anyStart,
    fc.boolean(),
    fc.boolean(),
    fc.array(fc.record({ region: anyId, links: fc.nat(4) }), { maxLength: 3 }),
    fc.array(anyHeardRule, { maxLength: 3 }),
    fc.option(anyId, { nil: undefined }),
    fc.option(fc.stringMatching(/^[0-9a-f]{16}$/), { nil: undefined }),
  )
  .map(([update, start, keepsEntries, exportsSummaries, borders, heardRules, controlStore, configDigest]) => ({
    ...update,
    ...start,
    ...(keepsEntries && { keepsEntries }),
    ...(exportsSummaries && { exportsSummaries }),
    ...(controlStore !== undefined && { controlStore }),
    ...(configDigest !== undefined && { configDigest }),
    ...(borders.length > 0 && { borders }),
    ...(heardRules.length > 0 && {
      heardRules: heardRules.map(({ reached, ...rule }) => ({ ...rule, ...(reached.length > 0 && { reached }) })),
    }),
  }));
const updates = fc.array(anyUpdate, { maxLength: 5 });

const anyHead = fc.record({
  number: anyCount,
  hlc: anyCount,
  nodeId: optionalId,
  checksum: fc.oneof(fc.constant(""), fc.stringMatching(/^[0-9a-f]{64}$/)),
});

export const anyRecords = fc
  .record({
    ref: anyRef,
    range: fc.tuple(anyCount, anyCount).map(([a, b]) => ({ after: Math.min(a, b), through: Math.max(a, b) })),
    records: fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }),
    isComplete: fc.boolean(),
    isLast: fc.boolean(),
    floor: anyCount,
    knownSeq: anyCount,
    clusterId: anyId,
    region: anyId,
  })
  .map(({ ref, range, clusterId, region, knownSeq, ...rest }) => ({
    kind: "records" as const,
    clusterId,
    region,
    frame: { ...ref, ...range, ...rest, ...(knownSeq > 0 && { knownSeq }) },
  }));

/** Every kind of frame that replication says. */
const anyReplication: fc.Arbitrary<ReplicationFrame> = fc.oneof(
  fc
    .record({
      kind: fc.constant("vector" as const),
      entries: fc.array(
        fc
          .record({
            ref: anyRef,
            seq: anyCount,
            floor: anyCount,
            isHidden: fc.boolean(),
            isLacking: fc.boolean(),
            lackingThrough: anyCount,
            isOfOtherCluster: fc.boolean(),
          })
          .map(({ ref, isHidden, isLacking, lackingThrough, isOfOtherCluster, ...rest }) => {
            const lacking = { isLacking, ...(lackingThrough > 0 && { lackingThrough }), ...(isOfOtherCluster && { isOfOtherCluster }) };
            return { ...ref, ...rest, ...(isHidden && { isHidden }), ...(isLacking && lacking) };
          }),
        { maxLength: 6 },
      ),
      short: fc.array(fc.record({ hash: fc.nat(0xffffffff), seq: anyCount }), { maxLength: 6 }),
      digest: anyDigest,
      isPartial: fc.boolean(),
      isWanted: fc.boolean(),
      isOffer: fc.boolean(),
      heartbeats: fc.array(
        fc.record(
          {
            hash: fc.nat(0xffffffff),
            ageMs: fc.nat(0x7fffffff).map((tenths) => tenths * 100),
            seq: fc.integer({ min: 1, max: 2 ** 52 - 1 }),
          },
          { requiredKeys: ["hash", "ageMs"], noNullPrototype: true },
        ),
        { maxLength: 6 },
      ),
    })
    .map(({ short, isOffer, heartbeats, ...rest }) => ({
      ...rest,
      ...(short.length > 0 && { short }),
      ...(isOffer && { isOffer }),
      ...(heartbeats.length > 0 && { heartbeats }),
    })),
  anyRecords,
  fc.record({ kind: fc.constant("linked" as const), nodeIds: ids }),
  fc.record({
    kind: fc.constant("digests" as const),
    origins: fc.array(
      fc
        .record({ ref: anyRef, through: anyCount, liveCount: anyCount, digest: anyDigest })
        .map(({ ref, ...rest }) => ({ ...ref, ...rest })),
      { maxLength: 6 },
    ),
  }),
);

const anySealed = fc.array(
  fc.record({ signed: fc.uint8Array({ maxLength: 60 }), signature: fc.uint8Array({ maxLength: 64 }), hops: fc.nat(8) }),
  { maxLength: 3 },
);
const bucketDigests = fc.oneof(fc.constant([]), fc.array(anyDigest, { minLength: 256, maxLength: 256 }));

/** Every kind of frame that tells of summaries. */
const anyOfSummaries: fc.Arbitrary<LinkFrame> = fc.oneof(
  fc.record({ kind: fc.constant("summaries" as const), frame: anyReplication }),
  fc.record({
    kind: fc.constant("sourceAges" as const),
    sources: fc.array(fc.record({ sourceCluster: anyId, version: anyCount, ageMs: anyCount }), { maxLength: 4 }),
    saidMs: anyCount,
    asOfMs: anyCount,
  }),
  fc.record({
    kind: fc.constant("borderRules" as const),
    exports: fc.array(fc.constantFrom("*", "svc.*", "svc.market"), { maxLength: 3 }),
    directSources: ids,
    reach: fc.array(anyReach, { maxLength: 3 }),
  }),
  fc
    .record({ summaries: anySealed, beacons: anySealed, keys: anySealed, ageMs: fc.nat(0xffffffff) })
    .map(({ ageMs, ...rest }) => ({ kind: "borderBatch" as const, ...rest, beaconAgesMs: rest.beacons.map(() => ageMs) })),
  fc.record({
    kind: fc.constant("borderDigest" as const),
    digest: anyDigest,
    count: fc.nat(0xffffffff),
    isAnswer: fc.boolean(),
    buckets: bucketDigests,
  }),
  fc
    .record({
      isAnswer: fc.boolean(),
      buckets: fc.array(fc.nat(255), { maxLength: 6 }),
      held: fc.array(fc.tuple(anyDigest, anyCount), { maxLength: 6 }),
    })
    .map(({ held, ...rest }) => ({
      kind: "borderHave" as const,
      ...rest,
      hashes: held.map(([hash]) => hash),
      versions: held.map(([, version]) => version),
    })),
);

/** Every kind of frame but records, and those too. */
export const anyFrame: fc.Arbitrary<LinkFrame> = fc.oneof(
  fc.record({
    kind: fc.constant("hello" as const),
    hello: fc
      .record({
        ref: anyRef,
        start: anyStart,
        clusterId: anyId,
        region: anyId,
        zone: optionalId,
        address: anyAddress,
        version: anyVersion,
        protocolVersions: versions,
        clusterToken: fc.stringMatching(/^[!-~]{0,80}$/),
        policyFrom: ids,
        isReady: fc.boolean(),
        runsChecks: fc.boolean(),
        holdsSummaries: fc.boolean(),
        borderTo: optionalId,
      })
      .map(({ ref, start, borderTo, ...rest }) => ({
        ...ref,
        ...start,
        ...rest,
        ...(borderTo !== "" && { borderTo }),
      })),
  }),
  fc.record({ kind: fc.constant("goodbye" as const), reason: fc.constantFrom(...GOODBYES), detail: fc.stringMatching(/^[ -~]{0,256}$/) }),
  anyReplication,
  fc.record({ kind: fc.constant("handOver" as const), seqs: fc.array(anyCount, { maxLength: 5 }), isRefused: fc.boolean() }),
  fc.record({ kind: fc.constant("policyHead" as const), head: anyHead }),
  fc.record({ kind: fc.constant("policySettled" as const), head: anyHead }),
  fc.record({ kind: fc.constant("policyWanted" as const), number: anyCount.map((n) => Math.max(1, n)) }),
  fc
    .record({ head: anyHead, part: fc.uint8Array({ maxLength: 300 }), offset: fc.nat(10_000), more: fc.integer({ min: 1, max: 10_000 }) })
    .map(({ head, part, offset, more }) => ({ kind: "policyPart" as const, head, part, offset, sizeBytes: offset + part.length + more })),
  anyOfSummaries,
);

/** Absent rather than empty, as it is decoded. */
const lostWords = fc.array(
  fc
    .record(
      { ref: anyRef, through: anyCount, mark: anyCount, keysThrough: fc.integer({ min: 1 }), keys: fc.uint8Array({ maxLength: 40 }) },
      { requiredKeys: ["ref", "through", "mark"] },
    )
    .map(({ ref, ...rest }) => ({ ...ref, ...rest })),
  { minLength: 1, maxLength: 4 },
);

const anyHome = fc.record({ clusterId: optionalId, region: optionalId });
const anySpeaker = fc.tuple(anyRef, anyHome, anyStart).map(([ref, home, start]) => ({ ...ref, ...home, ...start }));
const heldStart = fc.record({ boot: anyId, address: fc.oneof(fc.constant(""), anyAddress) });

export const anyRequest: fc.Arbitrary<FabricCallRequest> = fc.oneof(
  fc.record({ kind: fc.constant("probe" as const), from: anySpeaker, targetNodeId: optionalId, updates }),
  fc.record({
    kind: fc.constant("probeIndirect" as const),
    from: anySpeaker,
    targetNodeId: anyId,
    targetAddress: anyAddress,
    timeoutMs: fc.integer({ min: 1, max: 60_000 }),
    updates,
  }),
  fc.record(
    {
      kind: fc.constant("pushPull" as const),
      from: anySpeaker,
      isJoin: fc.boolean(),
      members: updates,
      digest: anyDigest.filter((digest) => digest > 0n),
      lost: lostWords,
      takesLostKeys: fc.constant(true),
    },
    { requiredKeys: ["kind", "from", "isJoin", "members"] },
  ),
);

export const anyResponse: fc.Arbitrary<FabricCallResponse> = fc.oneof(
  fc.record(
    { kind: fc.constant("probe" as const), from: anySpeaker, updates, wallMs: fc.integer({ min: 1, max: 2 ** 52 }), heldStart },
    { requiredKeys: ["kind", "from", "updates"] },
  ),
  fc.record({ kind: fc.constant("probeIndirect" as const), isAcknowledged: fc.boolean(), updates }),
  fc.record(
    {
      kind: fc.constant("pushPull" as const),
      from: anySpeaker,
      members: updates,
      ownUpdateRefused: fc.constantFrom("full", "too many roles"),
      lost: lostWords,
      heldStart,
    },
    { requiredKeys: ["kind", "from", "members"] },
  ),
);

/** A frame as its bytes say it to the peer. */
export function asReceived(frame: LinkFrame): LinkFrame {
  return decodeLinkFrame(encodeLinkFrame(frame));
}

/** A call as its bytes say it to the node that is asked. */
export function callAsReceived(request: FabricCallRequest): FabricCallRequest {
  return decodeCallRequest(request.kind, encodeCallRequest(request));
}
