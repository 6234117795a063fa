/** `waymark.fabric.v1.VectorFrame`: entries with names, and short ones, which are two packed lists of equal length. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { VectorFrameSchema } from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { isSeq } from "../../catalog/record/codec.ts";
import { invalid } from "../../lib/errors.ts";
import { tagOf, WIRE, WireReader } from "../../lib/protowire.ts";
import { parseList, refOf } from "./codec-parts.ts";
import type { Heartbeat, ReplicationFrame, Said, ShortEntry } from "./messages.ts";
import { checkCount, isCountable, type MessageBounds, numberField } from "./validation.ts";

type VectorFrame = Extract<ReplicationFrame, { kind: "vector" }>;

const TAG = {
  hashes: tagOf(5, WIRE.BYTES),
  hash: tagOf(5, WIRE.FIXED32),
  seqs: tagOf(6, WIRE.BYTES),
  seq: tagOf(6, WIRE.VARINT),
  heartbeatHashes: tagOf(8, WIRE.BYTES),
  heartbeatHash: tagOf(8, WIRE.FIXED32),
  heartbeatTenths: tagOf(9, WIRE.BYTES),
  heartbeatTenth: tagOf(9, WIRE.VARINT),
  heartbeatSeqs: tagOf(10, WIRE.BYTES),
  heartbeatSeq: tagOf(10, WIRE.VARINT),
} as const;
const HASH_BYTES = 4;
const TENTH_MS = 100;
/** Some years. */
const MAX_TENTHS = 2 ** 31;

export function vectorOf(bytes: Uint8Array, bounds: MessageBounds): VectorFrame {
  checkLists(bytes, bounds);
  const vector = parseList(VectorFrameSchema, bytes, { field: 1, max: bounds.maxVectorEntries });
  const entries = vector.entries.map((entry) => ({
    ...refOf(entry.origin, "vector.entries.origin", bounds),
    seq: numberField(entry.seq, "vector.entries.seq"),
    floor: numberField(entry.floor, "vector.entries.floor"),
    ...(entry.hidden && { isHidden: true }),
    ...(entry.lacking && { isLacking: true, lackingThrough: numberField(entry.lackingThrough, "vector.entries.lacking_through") }),
    ...(entry.lacking && entry.otherCluster && { isOfOtherCluster: true }),
  }));
  const short = shortEntriesOf(vector);
  const said = { digest: vector.digest, isPartial: vector.partial, isWanted: vector.wanted };
  return {
    kind: "vector",
    entries: entries.filter(isCountable),
    ...(short.length > 0 && { short }),
    ...said,
    ...(vector.offer && { isOffer: true }),
    ...(vector.heartbeatHashes.length > 0 && { heartbeats: heartbeatsOf(vector) }),
    ...(vector.saidMs > 0n && { said: saidOf(vector) }),
  };
}

/** Counts short entries and heartbeats before anything is built of them. */
function checkLists(bytes: Uint8Array, bounds: MessageBounds): void {
  const reader = new WireReader(bytes);
  let [hashes, seqs, heartbeats, tenths, ends] = [0, 0, 0, 0, 0];
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === TAG.hashes) hashes += Math.ceil(reader.view().length / HASH_BYTES);
    else if (tag === TAG.heartbeatHashes) heartbeats += Math.ceil(reader.view().length / HASH_BYTES);
    else if (tag === TAG.seqs) seqs += countVarints(reader.view());
    else if (tag === TAG.heartbeatTenths) tenths += countVarints(reader.view());
    else if (tag === TAG.heartbeatSeqs) ends += countVarints(reader.view());
    else {
      if (tag === TAG.hash) hashes += 1;
      else if (tag === TAG.seq) seqs += 1;
      else if (tag === TAG.heartbeatHash) heartbeats += 1;
      else if (tag === TAG.heartbeatTenth) tenths += 1;
      else if (tag === TAG.heartbeatSeq) ends += 1;
      reader.skip(tag);
    }
  }
  checkCount(hashes, "vector.hashes", bounds.maxVectorEntries);
  if (seqs !== hashes) throw invalid("vector.seqs", `${seqs} for ${hashes} hashes`);
  checkCount(heartbeats, "vector.heartbeat_hashes", bounds.maxVectorEntries);
  if (tenths !== heartbeats) throw invalid("vector.heartbeat_tenths", `${tenths} for ${heartbeats} hashes`);
  if (ends !== heartbeats && ends !== 0) throw invalid("vector.heartbeat_seqs", `${ends} for ${heartbeats} hashes`);
}

function countVarints(packed: Uint8Array): number {
  return packed.reduce((count, byte) => (byte < 0x80 ? count + 1 : count), 0);
}

/** Of a checked message. */
function shortEntriesOf({ hashes, seqs }: { readonly hashes: readonly number[]; readonly seqs: readonly bigint[] }): readonly ShortEntry[] {
  const short = hashes.map((hash, i) => ({ hash, seq: numberField(seqs[i] ?? 0n, "vector.seqs") }));
  return short.filter(({ seq }) => isSeq(seq));
}

interface HeartbeatLists {
  readonly heartbeatHashes: readonly number[];
  readonly heartbeatTenths: readonly number[];
  readonly heartbeatSeqs: readonly bigint[];
}

/** Of a checked message. */
function heartbeatsOf({ heartbeatHashes, heartbeatTenths, heartbeatSeqs }: HeartbeatLists): readonly Heartbeat[] {
  return heartbeatHashes.map((hash, i) => {
    const seq = numberField(heartbeatSeqs[i] ?? 0n, "vector.heartbeat_seqs");
    return { hash, ageMs: (heartbeatTenths[i] ?? 0) * TENTH_MS, ...(seq > 0 && isSeq(seq) && { seq }) };
  });
}

function saidOf({ saidMs, asOfMs }: { readonly saidMs: bigint; readonly asOfMs: bigint }): Said {
  const atMs = numberField(saidMs, "vector.said_ms");
  return asOfMs > 0n ? { atMs, asOfMs: numberField(asOfMs, "vector.as_of_ms") } : { atMs };
}

function tenthsOf({ ageMs }: Heartbeat): number {
  return Math.min(Math.ceil(ageMs / TENTH_MS), MAX_TENTHS);
}

export function vectorInit({
  entries,
  short = [],
  digest,
  isPartial,
  isWanted,
  isOffer = false,
  heartbeats = [],
  said,
}: VectorFrame): MessageInitShape<typeof VectorFrameSchema> {
  return {
    entries: entries.map(
      ({ nodeId, generation, seq, floor, isHidden = false, isLacking = false, lackingThrough = 0, isOfOtherCluster = false }) => {
        const origin = { nodeId, generation: BigInt(generation) };
        return {
          origin,
          seq: BigInt(seq),
          floor: BigInt(floor),
          hidden: isHidden,
          lacking: isLacking,
          lackingThrough: BigInt(lackingThrough),
          otherCluster: isOfOtherCluster,
        };
      },
    ),
    digest,
    partial: isPartial,
    wanted: isWanted,
    offer: isOffer,
    hashes: short.map(({ hash }) => hash),
    seqs: short.map(({ seq }) => BigInt(seq)),
    heartbeatHashes: heartbeats.map(({ hash }) => hash),
    heartbeatTenths: heartbeats.map(tenthsOf),
    heartbeatSeqs: heartbeats.some(({ seq }) => seq !== undefined) ? heartbeats.map(({ seq = 0 }) => BigInt(seq)) : [],
    saidMs: BigInt(said?.atMs ?? 0),
    asOfMs: BigInt(said?.asOfMs ?? 0),
  };
}
