/** The messages of members. Each state of a member is encoded once, because many readers ask for the same states. */
import { create, type JsonObject, toBinary, toJson } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type Peer,
  PeerDesired,
  type PeerDrain,
  PeerDrainSchema,
  PeerDrainStep,
  PeerSchema,
  PeerStatus,
} from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { scopeBetween } from "../../catalog/entry/scope.ts";
import type { CopiedItem } from "../../control/leadership/copy.ts";
import { DRAIN_STEPS } from "../../control/peers/drain.ts";
import type { DesiredState, PeerRecord } from "../../control/peers/records.ts";
import { enumName } from "../../lib/enum-words.ts";
import { tagOf, takeBytes, timeOf, varintSize, WIRE, writeBytes, writeBytesField, writeTimeField } from "../../lib/protowire.ts";
import { timestampOf } from "../contract.ts";
import { wireScope } from "../discovery/nodes.ts";
import type { MemberRow, ServingNode } from "./members.ts";
import { desiredOf, type PeerControl } from "./operations.ts";

interface PeerMessageParts {
  readonly control: Pick<PeerControl, "isOwnStore" | "record">;
  readonly identity: ServingNode;
}

/** A member as it is now. */
export interface WatchedPeer {
  /** Approximate size of the encoded member. */
  readonly sizeBytes: number;
  encode(): Uint8Array;
}

const LAST_SEEN = tagOf(PeerSchema.field.lastSeen.number, WIRE.BYTES);
const RTT = tagOf(PeerSchema.field.rtt.number, WIRE.BYTES);
/** Room for both times. */
const MAX_TIMES_BYTES = 48;

/** A member in one state, without the values that each probe measures. */
interface SteadyPeer {
  readonly version: string;
  readonly message: Peer;
  readonly bytes: Uint8Array;
  readonly json: JsonObject;
}

export class PeerMessages {
  readonly #parts: PeerMessageParts;
  /** The last state of each member that was asked for. */
  readonly #steady = new Map<string, SteadyPeer>();

  constructor(parts: PeerMessageParts) {
    this.#parts = parts;
  }

  desiredOf(row: MemberRow): DesiredState {
    return desiredOf(row, this.#parts.control);
  }

  /** Returns a label of a member. Undefined if there is none with this key. */
  labelOf(row: MemberRow, key: string): string | undefined {
    const lists = [this.#recordOf(row)?.value?.labels, row.labels];
    return lists.find((labels) => labels !== undefined && Object.hasOwn(labels, key))?.[key];
  }

  /**
   * Identifies the state of a member, without the values that each probe measures. It depends on everything that `wirePeer` reads: a member increases
   * its incarnation with every change of its facts.
   */
  versionOf(row: MemberRow): string {
    const { generation, incarnation, status, accuser, isLinked } = row;
    return `${generation} ${incarnation} ${status} ${accuser} ${isLinked} ${this.#recordOf(row)?.version}`;
  }

  message(row: MemberRow): Peer {
    return { ...this.#steadyOf(row).message, ...measured(row) };
  }

  // HOT: runs once per listed member (bench `operators`). protobuf-es needs 8 µs for the two times, and this code less than 1 µs.
  bytes(row: MemberRow): Uint8Array {
    const { bytes } = this.#steadyOf(row);
    const { lastSeenWallMs, rttMs } = row;
    const out = takeBytes(bytes.length + MAX_TIMES_BYTES);
    let at = writeBytes(out, 0, bytes);
    if (lastSeenWallMs !== undefined) at = writeTimeField(out, at, LAST_SEEN, timeOf(lastSeenWallMs));
    if (rttMs !== undefined) at = writeTimeField(out, at, RTT, timeOf(shownMs(rttMs)));
    return out.subarray(0, at);
  }

  watched(row: MemberRow): WatchedPeer {
    return { sizeBytes: this.#steadyOf(row).bytes.length, encode: () => this.bytes(row) };
  }

  json(row: MemberRow): JsonObject {
    const { lastSeenWallMs, rttMs } = row;
    return {
      ...this.#steadyOf(row).json,
      ...(lastSeenWallMs !== undefined && { lastSeen: new Date(lastSeenWallMs).toISOString().replace(".000Z", "Z") }),
      ...(rttMs !== undefined && { rtt: `${(shownMs(rttMs) / 1000).toFixed(3)}s` }),
    };
  }

  /** Drops the state of a member that has changed or was forgotten. */
  changed(nodeId: string): void {
    this.#steady.delete(nodeId);
  }

  /** Returns the operators' record of a member. Undefined if there is none, and for members of other clusters. */
  #recordOf({ nodeId, clusterId }: MemberRow): CopiedItem<PeerRecord> | undefined {
    const { identity, control } = this.#parts;
    return clusterId === identity.clusterId ? control.record(nodeId) : undefined;
  }

  #steadyOf(row: MemberRow): SteadyPeer {
    const version = this.versionOf(row);
    const known = this.#steady.get(row.nodeId);
    if (known?.version === version) return known;
    const message = wirePeer(row, this.#recordOf(row), this.#parts);
    const steady = { version, message, bytes: toBinary(PeerSchema, message), json: jsonOf(message) };
    this.#steady.set(row.nodeId, steady);
    return steady;
  }
}

/** Encodes a message: one field, which contains other encoded messages, and the rest of its fields. `field` is at most 15. */
export function messageWith(field: number, messages: readonly Uint8Array[], rest: Uint8Array): Uint8Array {
  const tag = tagOf(field, WIRE.BYTES);
  const bytes = new Uint8Array(messages.reduce((size, { length }) => size + 1 + varintSize(length) + length, rest.length));
  writeBytes(
    bytes,
    messages.reduce((at, message) => writeBytesField(bytes, at, tag, message), 0),
    rest,
  );
  return bytes;
}

/** Returns the values that each probe measures. */
function measured({ lastSeenWallMs, rttMs }: MemberRow): Pick<Peer, "lastSeen" | "rtt"> {
  return {
    ...(lastSeenWallMs !== undefined && { lastSeen: timestampFromMs(lastSeenWallMs) }),
    ...(rttMs !== undefined && { rtt: durationFromMs(shownMs(rttMs)) }),
  };
}

/** Returns a round-trip time as it is shown: at least 1 ms. */
function shownMs(rttMs: number): number {
  return Math.max(1, Math.round(rttMs));
}

function jsonOf(peer: Peer): JsonObject {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the JSON form of a message is an object
  return toJson(PeerSchema, peer, { alwaysEmitImplicit: true }) as JsonObject;
}

function wirePeer(row: MemberRow, record: CopiedItem<PeerRecord> | undefined, { identity, control }: PeerMessageParts): Peer {
  const { nodeId, clusterId, region, zone, status, address, version, healthScore, accuser, drain } = row;
  const operation = record?.value;
  return create(PeerSchema, {
    nodeId,
    clusterId,
    region,
    zone,
    status: PeerStatus[enumName(status)],
    address,
    version,
    healthScore,
    accuser: status === "suspect" ? accuser : "",
    incarnation: BigInt(row.incarnation),
    generation: BigInt(row.generation),
    protocolVersions: [...row.protocolVersions],
    transports: [...row.transports],
    roles: [...row.roles],
    labels: { ...row.labels, ...operation?.labels },
    isSelf: row.isSelf,
    linked: row.isLinked,
    scope: row.isSelf ? Scope.LOCAL : wireScope(scopeBetween(identity, row)),
    desired: PeerDesired[enumName(desiredOf(row, control))],
    serving: row.isServing ?? false,
    etag: control.isOwnStore && !row.isSelf ? "" : `"${record?.version ?? 0}"`,
    ...(drain !== undefined && { drain: wireDrain(drain) }),
    ...(operation !== undefined && { lastOperation: { ...operation, at: timestampOf(operation.atWallMs) } }),
  });
}

/** A step that this version does not know is not set. */
function wireDrain({ step, sinceMs, isStuck, left }: NonNullable<MemberRow["drain"]>): PeerDrain {
  const known = DRAIN_STEPS.find((each) => each === step);
  return create(PeerDrainSchema, {
    step: known === undefined ? PeerDrainStep.UNSPECIFIED : PeerDrainStep[enumName(known)],
    left: Object.fromEntries(left.map(({ kind, count }) => [kind, BigInt(count)])),
    since: timestampOf(sinceMs),
    stuck: isStuck,
  });
}
