/**
 * What nodes of other versions say to us, and hear from us: a message of each kind. The files in `bytes/` were written by
 * released code and must be read for ever; when an encoding changes, a new file joins them and the old ones stay.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { encodeRecord } from "../../src/catalog/record/codec.ts";
import { BODY, KIND } from "../../src/catalog/record/record.ts";
import { decodeCallRequest, decodeCallResponse, encodeCallRequest, encodeCallResponse } from "../../src/fabric/wire/call-codec.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../../src/fabric/wire/codec.ts";
import type { FabricCallRequest, FabricCallResponse, LinkFrame } from "../../src/fabric/wire/messages.ts";
import {
  decodeAnnouncement,
  decodeBeacon,
  decodeRecord,
  decodeSummary,
  encodeBeacon,
  encodeRecord as encodeSealed,
  encodeSummary,
} from "../../src/summary/codec.ts";
import { helloOf, nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { ANNOUNCEMENT, BEACON, SUMMARY, sealedAs } from "../fakes/summaries.ts";

const FOLDER = join(import.meta.dirname, "bytes");
const GENERATION = 1_846_000_000_123;
const KEY = { kind: KIND.SERVICE, namespace: "svc.market", name: "web", instanceId: "i-1", clusterId: "c1" } as const;
const HEAD = { seq: 42, hlc: 3_604_480_000_000_003, reach: SCOPE.REGION, filterSeq: 41, firstSeq: 7, principal: "ann" };
const RECORD = encodeRecord(HEAD, { body: BODY.UNREGISTERED, key: KEY });
const POLICY = { number: 7, hlc: 3_604_480_000_000_004, nodeId: "n2", checksum: "ab".repeat(32) };
const SEALED = { signed: Uint8Array.of(1, 2, 3), signature: new Uint8Array(64).fill(7), hops: 2 };
const BUCKETS = Array.from({ length: 256 }, (_, i) => BigInt(i));
const UPDATES = [updateOf("n3", { status: "suspect", accuser: "n1", generation: GENERATION, healthScore: 2 })];

const FRAMES: Readonly<Record<string, LinkFrame>> = {
  "frame-hello-1": {
    kind: "hello",
    hello: helloOf("n1", {
      generation: GENERATION,
      clusterToken: "secret",
      protocolVersions: [1, 2],
      isReady: true,
      runsChecks: true,
      holdsSummaries: true,
      policyFrom: ["c2"],
    }),
  },
  "frame-goodbye-1": { kind: "goodbye", reason: "restart", detail: "back soon" },
  "frame-vector-1": {
    kind: "vector",
    entries: [
      { nodeId: "n1", generation: GENERATION, seq: 4711, floor: 12 },
      { nodeId: "n2", generation: 1, seq: 0, floor: 0 },
    ],
    digest: 0xfedc_ba98_7654_3210n,
    isPartial: true,
    isWanted: true,
  },
  "frame-records-1": {
    kind: "records",
    clusterId: "c1",
    region: "eu",
    frame: {
      nodeId: "n1",
      generation: GENERATION,
      after: 40,
      through: 43,
      records: [RECORD, RECORD],
      isComplete: true,
      isLast: true,
      floor: 12,
    },
  },
  "frame-linked-1": { kind: "linked", nodeIds: ["n1", "n2"] },
  "frame-digests-1": {
    kind: "digests",
    origins: [{ nodeId: "n1", generation: GENERATION, through: 43, liveCount: 2, digest: 2n ** 64n - 1n }],
  },
  "frame-hand-over-1": { kind: "handOver", seqs: [3, 4711], isRefused: false },
  "frame-hand-over-2": { kind: "handOver", seqs: [3], isRefused: true },
  "frame-policy-head-1": { kind: "policyHead", head: POLICY },
  "frame-policy-wanted-1": { kind: "policyWanted", number: 7 },
  "frame-policy-settled-1": { kind: "policySettled", head: POLICY },
  "frame-summaries-1": {
    kind: "summaries",
    frame: {
      kind: "vector",
      entries: [{ nodeId: "n1", generation: GENERATION, seq: 9, floor: 0 }],
      digest: 1n,
      isPartial: true,
      isWanted: false,
    },
  },
  "frame-source-ages-1": {
    kind: "sourceAges",
    sources: [{ sourceCluster: "c2", version: 1_764_259_200, ageMs: 41_000 }],
    saidMs: 0,
    asOfMs: 0,
  },
  "frame-border-rules-1": { kind: "borderRules", exports: ["svc.*"], directSources: ["c2", "c3"], reach: [] },
  "frame-border-rules-2": {
    kind: "borderRules",
    exports: ["*"],
    directSources: [],
    reach: [
      { hops: 1, regions: ["ap", "eu"], patterns: ["svc", "shared.*"] },
      { hops: 7, regions: [], patterns: ["*"] },
    ],
  },
  "frame-border-batch-1": { kind: "borderBatch", summaries: [SEALED], beacons: [SEALED], keys: [SEALED], beaconAgesMs: [40_000] },
  "frame-border-digest-1": { kind: "borderDigest", digest: 2n ** 64n - 1n, count: 3, isAnswer: true, buckets: BUCKETS },
  "frame-border-have-1": { kind: "borderHave", isAnswer: true, buckets: [0, 255], hashes: [7n, 2n ** 63n], versions: [1, 2 ** 52] },
  "frame-policy-part-1": { kind: "policyPart", head: POLICY, part: Uint8Array.of(1, 2, 3), offset: 262_144, sizeBytes: 262_147 },
};
const REQUESTS: Readonly<Record<string, FabricCallRequest>> = {
  "ask-probe-1": { kind: "probe", from: nodeRef("n1", GENERATION), targetNodeId: "n2", updates: UPDATES },
  "ask-probe-indirect-1": {
    kind: "probeIndirect",
    from: nodeRef("n1", GENERATION),
    targetNodeId: "n2",
    targetAddress: "[::1]:17421",
    timeoutMs: 1_500,
    updates: UPDATES,
  },
  "ask-push-pull-1": { kind: "pushPull", from: nodeRef("n1", GENERATION), isJoin: true, members: UPDATES },
};
const RESPONSES: Readonly<Record<string, FabricCallResponse>> = {
  "answer-probe-1": { kind: "probe", from: nodeRef("n2", GENERATION), updates: UPDATES },
  "answer-probe-indirect-1": { kind: "probeIndirect", isAcknowledged: true, updates: UPDATES },
  "answer-push-pull-1": { kind: "pushPull", from: nodeRef("n2", GENERATION), members: UPDATES },
};

const SIGNED = sealedAs(encodeSummary(SUMMARY), 3);
const ENDING = { ...SUMMARY, notAfterWallMs: 1_764_300_000_000, noStale: true, withdrawn: true, regions: ["eu", "us"] };
/** A signature is over such bytes. */
const SEALS = [
  { name: "signed-summary-1", value: SUMMARY, write: () => encodeSummary(SUMMARY), read: decodeSummary },
  { name: "signed-summary-2", value: ENDING, write: () => encodeSummary(ENDING), read: decodeSummary },
  { name: "signed-beacon-1", value: BEACON, write: () => encodeBeacon(BEACON), read: decodeBeacon },
  { name: "signed-key-1", value: decodeAnnouncement(ANNOUNCEMENT), write: () => ANNOUNCEMENT, read: decodeAnnouncement },
  {
    name: "record-sealed-1",
    value: { what: "summary", sealed: SIGNED, summary: SUMMARY },
    write: () => encodeSealed("summary", SIGNED),
    read: decodeRecord,
  },
];

const ALL = [
  ...SEALS,
  ...Object.entries(FRAMES).map(([name, frame]) => ({ name, value: frame, write: () => encodeLinkFrame(frame), read: decodeLinkFrame })),
  ...Object.entries(REQUESTS).map(([name, value]) => ({
    name,
    value,
    write: () => encodeCallRequest(value),
    read: (bytes: Uint8Array) => decodeCallRequest(value.kind, bytes),
  })),
  ...Object.entries(RESPONSES).map(([name, value]) => ({
    name,
    value,
    write: () => encodeCallResponse(value),
    read: (bytes: Uint8Array) => decodeCallResponse(value.kind, bytes),
  })),
];

test.each(ALL)("$name is still what is written", async ({ name, write }) => {
  await expect(`${Buffer.from(write()).toString("hex")}\n`).toMatchFileSnapshot(join(FOLDER, `${name}.txt`));
});

test.for(ALL)("$name that was written is still read", ({ name, value, read }, { skip }) => {
  const path = join(FOLDER, `${name}.txt`);
  skip(!existsSync(path), "the file of a new row is written at the end of this run");
  const bytes = Uint8Array.from(Buffer.from(readFileSync(path, "utf8").trim(), "hex"));
  expect(read(bytes)).toEqual(value);
});
