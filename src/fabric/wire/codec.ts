/** Between bytes and what nodes say to each other: the shape of every field is checked here, by `validation.ts`. */
import { type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import {
  DigestFrameSchema,
  GoodbyeFrameSchema,
  HandOverFrameSchema,
  HelloFrameSchema,
  LinkedFrameSchema,
  type LinkFrameSchema,
  LinkRequestSchema,
  PolicyFrameSchema,
  type PolicyHead as PolicyHeadMessage,
} from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { invalid } from "../../lib/errors.ts";
import { isStamp } from "../../lib/hlc.ts";
import { WIRE, WireReader } from "../../lib/protowire.ts";
import { bytesOf, originInit, parse, parseList, refOf, speakerInit, startOf } from "./codec-parts.ts";
import { GOODBYES, type Hello, type LinkFrame, type OriginDigest, type PolicyHead } from "./messages.ts";
import { encodeRecords, LINK_FRAME_TAG, readRecords } from "./records-codec.ts";
import {
  checksumField,
  detailField,
  handOverOf,
  idsField,
  MESSAGE_BOUNDS,
  type MessageBounds,
  numberField,
  optionalIdField,
  placeFields,
  textField,
  versionsField,
} from "./validation.ts";
import { vectorInit, vectorOf } from "./vector-codec.ts";

/** The bytes of a frame on a link, the same both ways. A frame of records is encoded once, however many links it goes to. */
export function encodeLinkFrame(frame: LinkFrame): Uint8Array {
  if (frame.kind === "records") return encodeRecords(frame).message;
  return bytesOf(LinkRequestSchema, { frame: { frame: frameInit(frame) } });
}

/** Refuses what is no frame; one of a kind this version does not know, or beside the frames it knows, is `unknown`. */
export function decodeLinkFrame(bytes: Uint8Array, bounds: MessageBounds = MESSAGE_BOUNDS): LinkFrame {
  const reader = new WireReader(bytes);
  let frame: LinkFrame | undefined;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === LINK_FRAME_TAG) {
      if (frame !== undefined) throw invalid("frame", "is there twice");
      frame = readFrame(reader, bounds);
    } else reader.skipUnknown(tag, 1);
  }
  if (bytes.length === 0) throw invalid("frame", "is missing");
  return frame ?? { kind: "unknown" };
}

/** Highest frame of `LinkFrame` this version knows. */
const LAST_FRAME = 8;

/** HOT: of a frame of records nothing is built but views. */
function readFrame(reader: WireReader, bounds: MessageBounds): LinkFrame {
  const outer = reader.enter();
  let frame: LinkFrame | undefined;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag % 8 !== WIRE.BYTES || tag >>> 3 > LAST_FRAME) reader.skipUnknown(tag, LAST_FRAME);
    else {
      if (frame !== undefined) throw invalid("frame", "is more than one");
      frame = readKind(tag >>> 3, reader, bounds);
    }
  }
  reader.leave(outer);
  return frame ?? { kind: "unknown" };
}

function readKind(field: number, reader: WireReader, bounds: MessageBounds): LinkFrame {
  if (field === 3) {
    const outer = reader.enter();
    const records = readRecords(reader, bounds);
    reader.leave(outer);
    return records;
  }
  const bytes = reader.view();
  switch (field) {
    case 1:
      return { kind: "hello", hello: helloOf(parse(HelloFrameSchema, bytes), bounds) };
    case 2:
      return vectorOf(bytes, bounds);
    case 4:
      return goodbyeOf(bytes, bounds);
    case 5:
      return { kind: "linked", nodeIds: idsField(parse(LinkedFrameSchema, bytes).nodeIds, "linked.node_ids", bounds, bounds.maxOrigins) };
    case 6:
      return digestsOf(bytes, bounds);
    case 7:
      return policyOf(bytes, bounds);
    default:
      return handOverOf(parse(HandOverFrameSchema, bytes), bounds);
  }
}

function helloOf(hello: MessageShape<typeof HelloFrameSchema>, bounds: MessageBounds): Hello {
  return {
    ...refOf(hello.origin, "hello.origin", bounds),
    ...startOf(hello.origin ?? {}, "hello.origin", bounds),
    ...placeFields(hello, "hello", bounds),
    protocolVersions: versionsField(hello.protocolVersions, "hello.protocol_versions", bounds),
    capabilities: idsField(hello.capabilities, "hello.capabilities", bounds),
    clusterToken: textField(hello.clusterToken, "hello.cluster_token", bounds.maxTokenLength),
    ...(hello.policyFrom.length > 0 && { policyFrom: idsField(hello.policyFrom, "hello.policy_from", bounds, bounds.maxPolicyFrom) }),
  };
}

function goodbyeOf(bytes: Uint8Array, bounds: MessageBounds): LinkFrame {
  const { reason, detail } = parse(GoodbyeFrameSchema, bytes);
  const known = GOODBYES.find((word) => word === reason);
  // A newer peer's word: the mildest of ours, and its own for people.
  if (known === undefined) return { kind: "goodbye", reason: "not_needed", detail: detailField(`${reason} ${detail}`, bounds) };
  return { kind: "goodbye", reason: known, detail: detailField(detail, bounds) };
}

function digestsOf(bytes: Uint8Array, bounds: MessageBounds): LinkFrame {
  const { origins } = parseList(DigestFrameSchema, bytes, { field: 1, max: bounds.maxOrigins });
  return {
    kind: "digests",
    origins: origins.map((origin) => ({
      ...refOf(origin.origin, "digests.origins.origin", bounds),
      through: numberField(origin.through, "digests.origins.through"),
      liveCount: numberField(origin.liveCount, "digests.origins.live_count"),
      digest: origin.digest,
    })),
  };
}

function policyOf(bytes: Uint8Array, bounds: MessageBounds): LinkFrame {
  const policy = parse(PolicyFrameSchema, bytes);
  const wanted = numberField(policy.wantedNumber, "policy.wanted_number");
  if (policy.settled !== undefined) {
    const settled = headOf(policy.settled, bounds);
    return isStamp(settled.hlc) ? { kind: "policySettled", head: settled } : { kind: "unknown" };
  }
  if (policy.head === undefined) {
    if (wanted === 0) throw invalid("policy", "has neither head nor wanted_number");
    return { kind: "policyWanted", number: wanted };
  }
  const head = headOf(policy.head, bounds);
  if (!isStamp(head.hlc)) return { kind: "unknown" };
  const sizeBytes = numberField(policy.sizeBytes, "policy.size_bytes");
  if (sizeBytes === 0) return { kind: "policyHead", head };
  const { part } = policy;
  const offset = numberField(policy.offset, "policy.offset");
  if (sizeBytes > bounds.maxPolicyBytes) throw invalid("policy.size_bytes", `${sizeBytes} is more than ${bounds.maxPolicyBytes}`);
  if (part.length > bounds.maxPolicyPartBytes || part.length > sizeBytes - offset)
    throw invalid("policy.part", `${part.length} bytes at ${offset} of ${sizeBytes}, or more than ${bounds.maxPolicyPartBytes}`);
  return { kind: "policyPart", head, part, offset, sizeBytes };
}

function headOf(head: PolicyHeadMessage, bounds: MessageBounds): PolicyHead {
  return {
    number: numberField(head.number, "policy.head.number"),
    hlc: numberField(head.hlc, "policy.head.hlc"),
    nodeId: optionalIdField(head.nodeId, "policy.head.node_id", bounds),
    checksum: checksumField(head.checksum, "policy.head.checksum"),
  };
}

type FrameInit = NonNullable<MessageInitShape<typeof LinkFrameSchema>["frame"]>;

function frameInit(frame: Exclude<LinkFrame, { kind: "records" }>): FrameInit {
  switch (frame.kind) {
    case "hello": {
      const { nodeId, generation, boot, bootBefore, protocolVersions, capabilities, policyFrom = [], ...plain } = frame.hello;
      const start = { ...(boot !== undefined && { boot }), ...(bootBefore !== undefined && { bootBefore }) };
      const lists = { protocolVersions: [...protocolVersions], capabilities: [...capabilities], policyFrom: [...policyFrom] };
      return { case: "hello", value: { ...plain, ...lists, ...speakerInit({ nodeId, generation, ...start }) } };
    }
    case "goodbye":
      return { case: "goodbye", value: { reason: frame.reason, detail: frame.detail } };
    case "vector":
      return { case: "vector", value: vectorInit(frame) };
    case "linked":
      return { case: "linked", value: { nodeIds: [...frame.nodeIds] } };
    case "digests":
      return { case: "digests", value: { origins: frame.origins.map(digestInit) } };
    case "policyHead":
      return { case: "policy", value: { head: headInit(frame.head) } };
    case "policyWanted":
      return { case: "policy", value: { wantedNumber: BigInt(frame.number) } };
    case "policySettled":
      return { case: "policy", value: { settled: headInit(frame.head) } };
    case "policyPart": {
      const { head, part, offset, sizeBytes } = frame;
      return { case: "policy", value: { head: headInit(head), part, offset: BigInt(offset), sizeBytes: BigInt(sizeBytes) } };
    }
    case "handOver":
      return { case: "handOver", value: { seqs: frame.seqs.map(BigInt), refused: frame.isRefused } };
    case "unknown":
      return { case: undefined };
  }
}

function digestInit({ through, liveCount, digest, ...ref }: OriginDigest) {
  return { ...originInit(ref), through: BigInt(through), liveCount: BigInt(liveCount), digest };
}

function headInit(head: PolicyHead) {
  return { number: BigInt(head.number), hlc: BigInt(head.hlc), nodeId: head.nodeId, checksum: head.checksum };
}
