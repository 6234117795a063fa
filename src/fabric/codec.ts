/** Between bytes and what nodes say to each other: the shape of every field is checked here, by `message-rules.ts`. */
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  DigestFrameSchema,
  GoodbyeFrameSchema,
  HelloFrameSchema,
  LinkedFrameSchema,
  type LinkFrameSchema,
  LinkRequestSchema,
  type MemberUpdate as MemberMessage,
  type MemberUpdateSchema,
  type Origin as OriginMessage,
  PolicyFrameSchema,
  type PolicyHead as PolicyHeadMessage,
  ProbeIndirectRequestSchema,
  ProbeIndirectResponseSchema,
  ProbeRequestSchema,
  ProbeResponseSchema,
  PushPullRequestSchema,
  PushPullResponseSchema,
  VectorFrameSchema,
} from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { invalid, WaymarkError } from "../lib/errors.ts";
import { tagOf, WIRE, WireReader } from "../lib/protowire.ts";
import { encodeRecords, LINK_FRAME_TAG, readRecords } from "./frame-bytes.ts";
import {
  addressField,
  checkCount,
  checksumField,
  detailField,
  healthScoreField,
  idField,
  idsField,
  labelsField,
  MESSAGE_BOUNDS,
  type MessageBounds,
  numberField,
  optionalIdField,
  textField,
  versionsField,
} from "./message-rules.ts";
import {
  type CallRequest,
  type CallResponse,
  GOODBYES,
  type Hello,
  type LinkFrame,
  MEMBER_STATUSES,
  type MemberStatus,
  type MemberUpdate,
  type NodeRef,
  type OriginDigest,
  type PolicyFrame,
  type PolicyHead,
} from "./messages.ts";

type CallKind = CallRequest["kind"];

/** The bytes of a frame on a link, the same both ways. A frame of records is encoded once, however many links it goes to. */
export function encodeLinkFrame(frame: LinkFrame): Uint8Array {
  if (frame.kind === "records") return encodeRecords(frame).message;
  return bytesOf(LinkRequestSchema, { frame: { frame: frameInit(frame) } });
}

/** Refuses what is no frame; a frame of a kind this version does not know is `unknown`. */
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
  if (frame === undefined) throw invalid("frame", "is missing");
  return frame;
}

/** Highest frame of `LinkFrame` this version knows. */
const LAST_FRAME = 7;

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
    default:
      return policyOf(bytes, bounds);
  }
}

/** protobuf-es, with one error for whatever it does not like; a field it does not know is skipped. */
function parse<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (cause) {
    throw new WaymarkError("invalid_argument", `not the bytes of a ${schema.typeName}`, { cause });
  }
}

/** As `parse`, for messages with one long list: its items are counted before anything is built. */
function parseList<Desc extends DescMessage>(
  schema: Desc,
  bytes: Uint8Array,
  list: { readonly field: number; readonly max: number },
): MessageShape<Desc> {
  const reader = new WireReader(bytes);
  const wanted = tagOf(list.field, WIRE.BYTES);
  let count = 0;
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === wanted) count += 1;
    reader.skip(tag);
  }
  checkCount(count, schema.fields.find((field) => field.number === list.field)?.name ?? "list", list.max);
  return parse(schema, bytes);
}

function refOf(origin: OriginMessage | undefined, field: string, bounds: MessageBounds): NodeRef {
  if (origin === undefined) throw invalid(field, "is required");
  return {
    nodeId: idField(origin.nodeId, `${field}.node_id`, bounds),
    generation: numberField(origin.generation, `${field}.generation`),
  };
}

function helloOf(hello: MessageShape<typeof HelloFrameSchema>, bounds: MessageBounds): Hello {
  return {
    ...refOf(hello.origin, "hello.origin", bounds),
    clusterId: idField(hello.clusterId, "hello.cluster_id", bounds),
    region: idField(hello.region, "hello.region", bounds),
    zone: optionalIdField(hello.zone, "hello.zone", bounds),
    address: addressField(hello.address, "hello.address", bounds),
    version: textField(hello.version, "hello.version", bounds.maxVersionLength),
    protocolVersions: versionsField(hello.protocolVersions, "hello.protocol_versions", bounds),
    capabilities: idsField(hello.capabilities, "hello.capabilities", bounds),
    clusterToken: textField(hello.clusterToken, "hello.cluster_token", bounds.maxTokenLength),
  };
}

function vectorOf(bytes: Uint8Array, bounds: MessageBounds): LinkFrame {
  const vector = parseList(VectorFrameSchema, bytes, { field: 1, max: bounds.maxVectorEntries });
  const entries = vector.entries.map((entry) => ({
    ...refOf(entry.origin, "vector.entries.origin", bounds),
    seq: numberField(entry.seq, "vector.entries.seq"),
    floor: numberField(entry.floor, "vector.entries.floor"),
    ...(entry.hidden && { isHidden: true }),
  }));
  return { kind: "vector", entries, digest: vector.digest, isPartial: vector.partial, isWanted: vector.wanted };
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

function policyOf(bytes: Uint8Array, bounds: MessageBounds): PolicyFrame {
  const policy = parse(PolicyFrameSchema, bytes);
  const wanted = numberField(policy.wantedNumber, "policy.wanted_number");
  if (policy.head === undefined) {
    if (wanted === 0) throw invalid("policy", "has neither head nor wanted_number");
    return { kind: "policyWanted", number: wanted };
  }
  const head = headOf(policy.head, bounds);
  const sizeBytes = numberField(policy.sizeBytes, "policy.size_bytes");
  if (sizeBytes === 0) return { kind: "policyHead", head };
  const { part } = policy;
  const offset = numberField(policy.offset, "policy.offset");
  if (sizeBytes > bounds.maxPolicyBytes) throw invalid("policy.size_bytes", `${sizeBytes} is more than ${bounds.maxPolicyBytes}`);
  if (part.length > bounds.maxPolicyPartBytes || part.length > sizeBytes - offset)
    throw invalid(
      "policy.part",
      `${part.length} bytes at ${offset} do not lie in ${sizeBytes}, or are more than ${bounds.maxPolicyPartBytes}`,
    );
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

function memberOf(update: MemberMessage, status: MemberStatus, bounds: MessageBounds): MemberUpdate {
  return {
    nodeId: idField(update.nodeId, "updates.node_id", bounds),
    generation: numberField(update.generation, "updates.generation"),
    status,
    incarnation: numberField(update.incarnation, "updates.incarnation"),
    address: addressField(update.address, "updates.address", bounds),
    clusterId: idField(update.clusterId, "updates.cluster_id", bounds),
    region: idField(update.region, "updates.region", bounds),
    zone: optionalIdField(update.zone, "updates.zone", bounds),
    version: textField(update.version, "updates.version", bounds.maxVersionLength),
    protocolVersions: versionsField(update.protocolVersions, "updates.protocol_versions", bounds),
    transports: idsField(update.transports, "updates.transports", bounds),
    roles: idsField(update.roles, "updates.roles", bounds),
    labels: labelsField(update.labels, "updates.labels", bounds),
    healthScore: healthScoreField(update.healthScore),
    accuser: optionalIdField(update.accuser, "updates.accuser", bounds),
  };
}

function membersOf(updates: readonly MemberMessage[], bounds: MessageBounds): readonly MemberUpdate[] {
  return updates.flatMap((update) => {
    const status = MEMBER_STATUSES.find((word) => word === update.status);
    // A newer version's word, or nonsense: we can do nothing with what it says of this one member.
    return status === undefined ? [] : [memberOf(update, status, bounds)];
  });
}

/** What a caller asks. Throws `invalid_argument` naming the field. */
export function decodeCallRequest(kind: CallKind, bytes: Uint8Array, bounds: MessageBounds = MESSAGE_BOUNDS): CallRequest {
  switch (kind) {
    case "probe": {
      const probe = parseList(ProbeRequestSchema, bytes, { field: 2, max: bounds.maxUpdates });
      const targetNodeId = optionalIdField(probe.targetNodeId, "target_node_id", bounds);
      return { kind, from: refOf(probe.origin, "origin", bounds), targetNodeId, updates: membersOf(probe.updates, bounds) };
    }
    case "probeIndirect": {
      const probe = parseList(ProbeIndirectRequestSchema, bytes, { field: 5, max: bounds.maxUpdates });
      const timeoutMs = probe.timeout === undefined ? 0 : durationMs(probe.timeout);
      if (!(timeoutMs > 0 && timeoutMs <= bounds.maxTimeoutMs))
        throw invalid("timeout", `must be more than 0 and at most ${bounds.maxTimeoutMs} ms`);
      return {
        kind,
        from: refOf(probe.origin, "origin", bounds),
        targetNodeId: idField(probe.targetNodeId, "target_node_id", bounds),
        targetAddress: addressField(probe.targetAddress, "target_address", bounds),
        timeoutMs,
        updates: membersOf(probe.updates, bounds),
      };
    }
    case "pushPull": {
      const table = parseList(PushPullRequestSchema, bytes, { field: 1, max: bounds.maxMembers });
      const request = { kind, from: refOf(table.origin, "origin", bounds), isJoin: table.join, members: membersOf(table.members, bounds) };
      return table.digest === 0n ? request : { ...request, digest: table.digest };
    }
  }
}

/** What was answered to a request of that kind. Throws `invalid_argument` naming the field. */
export function decodeCallResponse(kind: CallKind, bytes: Uint8Array, bounds: MessageBounds = MESSAGE_BOUNDS): CallResponse {
  switch (kind) {
    case "probe": {
      const answer = parseList(ProbeResponseSchema, bytes, { field: 2, max: bounds.maxUpdates });
      return { kind, from: refOf(answer.origin, "origin", bounds), updates: membersOf(answer.updates, bounds) };
    }
    case "probeIndirect": {
      const answer = parseList(ProbeIndirectResponseSchema, bytes, { field: 2, max: bounds.maxUpdates });
      return { kind, isAcknowledged: answer.acknowledged, updates: membersOf(answer.updates, bounds) };
    }
    case "pushPull": {
      const table = parseList(PushPullResponseSchema, bytes, { field: 1, max: bounds.maxMembers });
      return { kind, from: refOf(table.origin, "origin", bounds), members: membersOf(table.members, bounds) };
    }
  }
}

export function encodeCallRequest(request: CallRequest): Uint8Array {
  const { origin } = originInit(request.from);
  switch (request.kind) {
    case "probe":
      return bytesOf(ProbeRequestSchema, { origin, targetNodeId: request.targetNodeId, updates: request.updates.map(memberInit) });
    case "probeIndirect": {
      const { targetNodeId, targetAddress, timeoutMs, updates } = request;
      const timeout = durationFromMs(timeoutMs);
      return bytesOf(ProbeIndirectRequestSchema, { origin, targetNodeId, targetAddress, timeout, updates: updates.map(memberInit) });
    }
    case "pushPull": {
      const { isJoin: join, members, digest = 0n } = request;
      return bytesOf(PushPullRequestSchema, { origin, join, members: members.map(memberInit), digest });
    }
  }
}

export function encodeCallResponse(response: CallResponse): Uint8Array {
  switch (response.kind) {
    case "probe":
      return bytesOf(ProbeResponseSchema, { ...originInit(response.from), updates: response.updates.map(memberInit) });
    case "probeIndirect":
      return bytesOf(ProbeIndirectResponseSchema, { acknowledged: response.isAcknowledged, updates: response.updates.map(memberInit) });
    case "pushPull":
      return bytesOf(PushPullResponseSchema, { ...originInit(response.from), members: response.members.map(memberInit) });
  }
}

function bytesOf<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): Uint8Array {
  return toBinary(schema, create(schema, init));
}

function memberInit(update: MemberUpdate): MessageInitShape<typeof MemberUpdateSchema> {
  const { generation, incarnation, protocolVersions, transports, roles, labels, ...plain } = update;
  return {
    ...plain,
    generation: BigInt(generation),
    incarnation: BigInt(incarnation),
    protocolVersions: [...protocolVersions],
    transports: [...transports],
    roles: [...roles],
    labels: { ...labels },
  };
}

type FrameInit = NonNullable<MessageInitShape<typeof LinkFrameSchema>["frame"]>;

function frameInit(frame: Exclude<LinkFrame, { kind: "records" }>): FrameInit {
  switch (frame.kind) {
    case "hello": {
      const { nodeId, generation, protocolVersions, capabilities, ...plain } = frame.hello;
      const lists = { protocolVersions: [...protocolVersions], capabilities: [...capabilities] };
      return { case: "hello", value: { ...plain, ...lists, ...originInit({ nodeId, generation }) } };
    }
    case "goodbye":
      return { case: "goodbye", value: { reason: frame.reason, detail: frame.detail } };
    case "vector": {
      const entries = frame.entries.map(({ seq, floor, isHidden = false, ...ref }) => {
        return { ...originInit(ref), seq: BigInt(seq), floor: BigInt(floor), hidden: isHidden };
      });
      return { case: "vector", value: { entries, digest: frame.digest, partial: frame.isPartial, wanted: frame.isWanted } };
    }
    case "linked":
      return { case: "linked", value: { nodeIds: [...frame.nodeIds] } };
    case "digests":
      return { case: "digests", value: { origins: frame.origins.map(digestInit) } };
    case "policyHead":
      return { case: "policy", value: { head: headInit(frame.head) } };
    case "policyWanted":
      return { case: "policy", value: { wantedNumber: BigInt(frame.number) } };
    case "policyPart": {
      const { head, part, offset, sizeBytes } = frame;
      return { case: "policy", value: { head: headInit(head), part, offset: BigInt(offset), sizeBytes: BigInt(sizeBytes) } };
    }
    case "unknown":
      return { case: undefined };
  }
}

function digestInit({ through, liveCount, digest, ...ref }: OriginDigest) {
  return { ...originInit(ref), through: BigInt(through), liveCount: BigInt(liveCount), digest };
}

function originInit(ref: NodeRef) {
  return { origin: { nodeId: ref.nodeId, generation: BigInt(ref.generation) } };
}

function headInit(head: PolicyHead) {
  return { number: BigInt(head.number), hlc: BigInt(head.hlc), nodeId: head.nodeId, checksum: head.checksum };
}
