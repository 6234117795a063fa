/** How values cross the simulated network: as bytes through the fabric's codec, or as values with their bytes copied. */
import { decodeCallRequest, decodeCallResponse, encodeCallRequest, encodeCallResponse } from "../../src/fabric/wire/call-codec.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../../src/fabric/wire/codec.ts";
import type { FabricCallRequest, FabricCallResponse, LinkFrame, RecordsFrame } from "../../src/fabric/wire/messages.ts";

/** A message under way: something to make it anew from, and what it weighs. */
export interface Packed<Message> {
  readonly sizeBytes: number;
  open(): Message;
}

export interface Wire {
  request(request: FabricCallRequest): Packed<FabricCallRequest>;
  response(response: FabricCallResponse): Packed<FabricCallResponse>;
  frame(frame: LinkFrame): Packed<LinkFrame>;
}

export const BYTES: Wire = {
  request: (request) => {
    const bytes = encodeCallRequest(request);
    return { sizeBytes: bytes.length, open: () => decodeCallRequest(request.kind, bytes) };
  },
  response: (response) => {
    const bytes = encodeCallResponse(response);
    return { sizeBytes: bytes.length, open: () => decodeCallResponse(response.kind, bytes) };
  },
  frame: (frame) => {
    const bytes = Uint8Array.from(encodeLinkFrame(frame));
    return { sizeBytes: bytes.length, open: () => decodeLinkFrame(bytes) };
  },
};

/** Nothing is encoded: for large worlds, where that would be most of the time. Sizes are estimates. */
export const VALUES: Wire = {
  request: (request) => ({ sizeBytes: sizeOfCall(request), open: () => request }),
  response: (response) => ({ sizeBytes: sizeOfCall(response), open: () => response }),
  frame: (frame) => {
    const copy = copyOf(frame);
    return { sizeBytes: sizeOfFrame(frame), open: () => copy };
  },
};

function copyOf(frame: LinkFrame): LinkFrame {
  if (frame.kind === "records") return copyOfRecords(frame);
  if (frame.kind === "policyPart") return { ...frame, part: Uint8Array.from(frame.part) };
  if (frame.kind === "summaries" && frame.frame.kind === "records") return { ...frame, frame: copyOfRecords(frame.frame) };
  return frame;
}

function copyOfRecords(records: RecordsFrame): RecordsFrame {
  return { ...records, frame: { ...records.frame, records: records.frame.records.map((record) => Uint8Array.from(record)) } };
}

// As measured with the codec on messages of the simulator.
const MEMBER_BYTES = 130;
const CALL_BYTES = 40;

function sizeOfCall(call: FabricCallRequest | FabricCallResponse): number {
  const updates = call.kind === "maintain" ? [] : "updates" in call ? call.updates : call.members;
  return CALL_BYTES + MEMBER_BYTES * updates.length;
}

function sizeOfFrame(frame: LinkFrame): number {
  switch (frame.kind) {
    case "records":
      return frame.frame.records.reduce((sum, record) => sum + record.length + 3, 60);
    case "vector":
      return (
        (frame.isOffer === true ? 12 : 30) +
        28 * frame.entries.length +
        6 * (frame.short?.length ?? 0) +
        5 * (frame.heartbeats?.length ?? 0) +
        3 * (frame.heartbeats?.filter(({ seq }) => seq !== undefined).length ?? 0)
      );
    case "linked":
      return 8 + 12 * frame.nodeIds.length;
    case "digests":
      return 8 + 36 * frame.origins.length;
    case "handOver":
      return 8 + 4 * frame.seqs.length;
    case "policyPart":
      return 64 + frame.part.length;
    case "summaries":
      return 3 + sizeOfFrame(frame.frame);
    case "sourceAges":
      return 8 + 16 * frame.sources.length;
    case "borderRules":
      return [
        ...frame.exports,
        ...frame.directSources,
        ...frame.reach.flatMap(({ regions, patterns }) => [...regions, ...patterns, "row"]),
      ].reduce((sum, text) => sum + text.length + 2, 8);
    case "borderBatch":
      return sealedIn(frame).reduce((sum, { signed, signature }) => sum + signed.length + signature.length + 9, 8);
    case "borderDigest":
      return 24 + 8 * frame.buckets.length;
    case "borderHave":
      return 12 + frame.buckets.length + 13 * frame.hashes.length;
    case "hello":
    case "goodbye":
    case "unknown":
    case "policyHead":
    case "policyWanted":
    case "policySettled":
      return 120;
  }
}

function sealedIn({ summaries, beacons, keys }: Extract<LinkFrame, { kind: "borderBatch" }>) {
  return [...summaries, ...beacons, ...keys];
}

/** A frame in a few words, for the trace. */
export function wordsOf(frame: LinkFrame): string {
  switch (frame.kind) {
    case "records": {
      const { nodeId, generation, after, through, records, isComplete, isLast } = frame.frame;
      const whole = isComplete ? (isLast ? " whole, last" : " whole") : "";
      return `records ${nodeId}/${generation} (${after}, ${through}] ${records.length}${whole}`;
    }
    case "vector": {
      const entries = frame.entries.map(
        ({ nodeId, generation, seq, floor }) => `${nodeId}/${generation}:${seq}${floor > 0 ? `>${floor}` : ""}`,
      );
      return `vector ${frame.isPartial ? "partial " : ""}${frame.isWanted ? "wanted " : ""}[${entries.join(" ")}]`;
    }
    case "handOver":
      return `${frame.kind} ${frame.isRefused ? "refused" : frame.seqs.join(" ")}`;
    case "goodbye":
      return `goodbye ${frame.reason} ${frame.detail}`;
    case "summaries":
      return `${frame.kind} ${wordsOf(frame.frame)}`;
    case "borderBatch":
      return `${frame.kind} ${frame.summaries.length} ${frame.beacons.length} ${frame.keys.length}`;
    case "hello":
    case "unknown":
    case "linked":
    case "digests":
    case "policyHead":
    case "policyWanted":
    case "policySettled":
    case "policyPart":
    case "sourceAges":
    case "borderRules":
    case "borderDigest":
    case "borderHave":
      return frame.kind;
  }
}
