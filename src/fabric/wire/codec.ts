/** Between bytes and the frames of links. */
import {
  decodeLinkRequest,
  encodeLinkRequest,
  type GoodbyeFrameFields,
  type LinkFrameFields,
  type PolicyFrameFields,
} from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { checkLinkFrame } from "../../../gen/waymark/fabric/v1/fabric_rules.ts";
import { invalid } from "../../lib/errors.ts";
import { isStamp } from "../../lib/hlc.ts";
import { GOODBYES, type LinkFrame } from "./messages.ts";
import { encodeRecords, recordsOf } from "./records-codec.ts";
import { borderOf, fieldsOfBorder, fieldsOfSpace, spaceOf } from "./summaries-codec.ts";
import { checked, detailField } from "./validation.ts";
import { fieldsOfVector, vectorOf } from "./vector-codec.ts";

/** The bytes of a frame on a link, the same both ways. A frame of records is encoded once, however many links it goes to. */
export function encodeLinkFrame(frame: LinkFrame): Uint8Array {
  if (frame.kind === "records") return encodeRecords(frame).message;
  return encodeLinkRequest({ frame: { frame: fieldsOf(frame) } });
}

/** Refuses what is no frame; one of a kind this version does not know, or beside the frames it knows, is `unknown`. */
export function decodeLinkFrame(bytes: Uint8Array): LinkFrame {
  if (bytes.length === 0) throw invalid("frame", "is missing");
  const { frame: message } = decodeLinkRequest(bytes);
  if (message === undefined) return { kind: "unknown" };
  const { frame } = checked(message, checkLinkFrame);
  switch (frame.case) {
    case "hello":
      return { kind: "hello", hello: frame.value };
    case "vector":
      return vectorOf(frame.value);
    case "records":
      return recordsOf(frame.value);
    case "goodbye":
      return goodbyeOf(frame.value);
    case "policy":
      return policyOf(frame.value);
    case "linked":
      return { kind: frame.case, ...frame.value };
    case "digests":
      return { kind: frame.case, ...frame.value };
    case "handOver":
      return { kind: frame.case, ...frame.value };
    case "summaries":
      return spaceOf(frame.value);
    case "sourceAges":
      return { kind: frame.case, ...frame.value };
    case "border":
      return borderOf(frame.value);
    case undefined:
      return { kind: "unknown" };
  }
}

function goodbyeOf({ reason, detail }: GoodbyeFrameFields): LinkFrame {
  const known = GOODBYES.find((word) => word === reason);
  // A newer peer's word: the mildest of ours, and its own for people.
  if (known === undefined) return { kind: "goodbye", reason: "not_needed", detail: detailField(`${reason} ${detail}`) };
  return { kind: "goodbye", reason: known, detail: detailField(detail) };
}

/** A version, a part of one, or a question; which of them, the fields say that are set. */
function policyOf({ head, wantedNumber, part = new Uint8Array(), offset = 0, sizeBytes, settled }: PolicyFrameFields): LinkFrame {
  if (settled !== undefined) return isStamp(settled.hlc) ? { kind: "policySettled", head: settled } : { kind: "unknown" };
  if (head === undefined) {
    if (wantedNumber === undefined) throw invalid("policy", "has neither head nor wanted_number");
    return { kind: "policyWanted", number: wantedNumber };
  }
  if (!isStamp(head.hlc)) return { kind: "unknown" };
  if (sizeBytes === undefined) return { kind: "policyHead", head };
  if (part.length > sizeBytes - offset) throw invalid("policy.part", `${part.length} bytes at ${offset} of ${sizeBytes}`);
  return { kind: "policyPart", head, part, offset, sizeBytes };
}

function fieldsOf(frame: Exclude<LinkFrame, { kind: "records" }>): LinkFrameFields["frame"] {
  switch (frame.kind) {
    case "hello":
      return { case: "hello", value: frame.hello };
    case "vector":
      return { case: "vector", value: fieldsOfVector(frame) };
    case "policyHead":
      return { case: "policy", value: { head: frame.head } };
    case "policyWanted":
      return { case: "policy", value: { wantedNumber: frame.number } };
    case "policySettled":
      return { case: "policy", value: { settled: frame.head } };
    case "policyPart":
      return { case: "policy", value: frame };
    case "goodbye":
      return { case: frame.kind, value: frame };
    case "linked":
      return { case: frame.kind, value: frame };
    case "digests":
      return { case: frame.kind, value: frame };
    case "handOver":
      return { case: frame.kind, value: frame };
    case "summaries":
      return { case: frame.kind, value: { space: fieldsOfSpace(frame.frame) } };
    case "sourceAges":
      return { case: frame.kind, value: frame };
    case "borderRules":
    case "borderBatch":
    case "borderDigest":
    case "borderHave":
      return { case: "border", value: { border: fieldsOfBorder(frame) } };
    case "unknown":
      return { case: undefined };
  }
}
