/** What a `waymark.fabric.v1.VectorFrame` says: entries with names, and short ones and heartbeats, which are lists of equal length. */
import type { VectorFrameFields } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { isSeq } from "../../catalog/record/codec.ts";
import { invalid } from "../../lib/errors.ts";
import type { Heartbeat, ReplicationFrame, ShortEntry, VectorEntry } from "./messages.ts";

type VectorFrame = Extract<ReplicationFrame, { kind: "vector" }>;

const TENTH_MS = 100;
/** Some years. */
const MAX_TENTHS = 2 ** 31;

/** Of a frame that breaks no rule; lists of unequal length are refused. */
export function vectorOf(vector: VectorFrameFields): VectorFrame {
  const { entries, digest, isPartial, isWanted, isOffer, saidMs, asOfMs } = vector;
  const short = shortEntriesOf(vector);
  const heartbeats = heartbeatsOf(vector);
  return {
    kind: "vector",
    entries: entries.filter(isCountable),
    ...(short.length > 0 && { short }),
    digest,
    isPartial,
    isWanted,
    ...(isOffer === true && { isOffer }),
    ...(heartbeats.length > 0 && { heartbeats }),
    ...(saidMs > 0 && { said: { atMs: saidMs, ...(asOfMs > 0 && { asOfMs }) } }),
  };
}

export function fieldsOfVector({ short = [], heartbeats = [], said, ...vector }: VectorFrame): VectorFrameFields {
  return {
    ...vector,
    hashes: short.map(({ hash }) => hash),
    seqs: short.map(({ seq }) => seq),
    heartbeatHashes: heartbeats.map(({ hash }) => hash),
    heartbeatTenths: heartbeats.map(({ ageMs }) => Math.min(Math.ceil(ageMs / TENTH_MS), MAX_TENTHS)),
    heartbeatSeqs: heartbeats.some(({ seq }) => seq !== undefined) ? heartbeats.map(({ seq = 0 }) => seq) : [],
    saidMs: said?.atMs ?? 0,
    asOfMs: said?.asOfMs ?? 0,
  };
}

/** Whether somebody can count on from what an entry of a vector says. One that says more says nothing, and the rest of its frame counts. */
function isCountable({ generation, seq, floor, lackingThrough = 0 }: VectorEntry): boolean {
  return isSeq(generation) && isSeq(seq) && isSeq(floor) && isSeq(lackingThrough);
}

function shortEntriesOf({ hashes, seqs }: VectorFrameFields): readonly ShortEntry[] {
  if (seqs.length !== hashes.length) throw invalid("vector.seqs", `${seqs.length} for ${hashes.length} hashes`);
  return hashes.map((hash, i) => ({ hash, seq: seqs[i] ?? 0 })).filter(({ seq }) => isSeq(seq));
}

function heartbeatsOf({ heartbeatHashes: hashes, heartbeatTenths: tenths, heartbeatSeqs: seqs }: VectorFrameFields): readonly Heartbeat[] {
  if (tenths.length !== hashes.length) throw invalid("vector.heartbeat_tenths", `${tenths.length} for ${hashes.length} hashes`);
  if (seqs.length !== hashes.length && seqs.length !== 0)
    throw invalid("vector.heartbeat_seqs", `${seqs.length} for ${hashes.length} hashes`);
  return hashes.map((hash, i) => {
    const seq = seqs[i] ?? 0;
    return { hash, ageMs: (tenths[i] ?? 0) * TENTH_MS, ...(seq > 0 && isSeq(seq) && { seq }) };
  });
}
