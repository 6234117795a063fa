/** Writes mesh events to the log and to the audit log. An event has the same id in both logs. */

import { type EntryKey, keyParts } from "../../catalog/record/record.ts";
import type { FabricEvent } from "../../fabric/io-types.ts";
import type { MemberStatus, MemberUpdate } from "../../fabric/wire/messages.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Log } from "../../lib/log.io.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import { joinSubjects, NODE_ACT, subjectOf } from "../../policy/audit/record.ts";
import type { HandedOver } from "../core/departure.ts";
import type { NodeNotice } from "../core-io.ts";
import type { NodeCore } from "../rooms.io.ts";

const MAX_STATUSES = 10_000;

export class FabricEvents {
  readonly #core: NodeCore;
  readonly #log: Log;
  /**
   * Statuses of the members that changed most recently. The size of the map is limited, because nodes with new names join and leave for as long as
   * this process runs.
   */
  readonly #statuses = new BoundedMap<string, MemberStatus>(MAX_STATUSES);
  /** A finding about a member. The member's status change follows, and both are logged together. */
  #finding: { readonly event: string; readonly detail: FabricEvent["detail"] } | undefined;
  #count = 0;

  constructor(core: NodeCore, log: Log) {
    this.#core = core;
    this.#log = log;
  }

  /** Handles a notification from the machine. */
  onNotice(notice: NodeNotice): void {
    if (notice.kind === "event") this.log(notice.event);
    else if (notice.kind === "memberChanged") this.member(notice.update);
    else if (notice.kind === "generationLost") this.#generationLost(notice);
    else if (notice.kind === "staticEnded") this.staticEnded(keyParts(notice.key));
    else if (notice.kind === "takenOver") this.#core.metrics.counter("mesh_taken_over_entries_total", {}).inc(notice.count);
    else if (notice.kind === "handedOver") this.handedOver(notice);
  }

  log({ name, severity, isAudited, detail, subjects }: FabricEvent): void {
    this.#core.metrics.inc("mesh_events_total", { event: name });
    if (FINDINGS.has(name)) {
      this.#finding = { event: name, detail };
      return;
    }
    const eventId = this.#nextId();
    this.#log[severity]({ ...detail, event: name, eventId }, MESSAGES.get(name) ?? name.replaceAll("_", " "));
    if (!isAudited) return;
    this.#record({ name, detail, subjects }, eventId);
  }

  #record({ name, detail, subjects = [] }: Pick<FabricEvent, "detail" | "name" | "subjects">, eventId: string): void {
    const facts = Object.entries(detail).map(([key, value]) => `${key}=${value}`);
    this.#core.audit?.record({
      // The detail contains the name that an unknown peer claims.
      ...NODE_ACT,
      atWallMs: now().wallMs,
      source: `${detail["address"] ?? ""}`,
      action: `mesh.${name}`.slice(0, MAX_ACTION_CHARS),
      outcome: REFUSALS.has(name) ? "denied" : "noted",
      reason: `${detail["reason"] ?? name}`,
      detail: [...facts, `event=${eventId}`].join(" "),
      subjects: joinSubjects([subjectOfEvent(detail), ...subjects]),
    });
  }

  /**
   * Logs that a record from another node ended a static entry of this node. The client that registered the entry does not renew it, so it would not
   * notice.
   */
  staticEnded({ namespace, name, instanceId }: EntryKey): void {
    const detail = { namespace, name, instanceId, reason: "unregistered_elsewhere" };
    this.log({ name: "static_entry_ended", severity: "warn", isAudited: true, detail });
  }

  /**
   * When this node leaves, reports the result of handing over its static entries. The result cannot be queried, because all listeners are closed by
   * then.
   */
  handedOver({ takenCount, leftCount, unansweredCount, localEndedCount }: HandedOver): void {
    const detail = { takenCount, leftCount, localEndedCount };
    const isAudited = takenCount + leftCount + localEndedCount > 0;
    // The remaining entries stay with this node, which announces a restart.
    if (leftCount > 0) this.log({ name: "static_entries_left", severity: "warn", isAudited, detail: { ...detail, unansweredCount } });
    else this.log({ name: "static_entries_handed_over", severity: "info", isAudited, detail });
  }

  /** Handles a changed member. Of the changes of a member, only status changes are logged. */
  member({ nodeId, status, clusterId, region, zone, address, version, generation, accuser, roles, transports }: MemberUpdate): void {
    const finding = this.#finding?.detail["nodeId"] === nodeId ? { event: this.#finding.event, ...this.#finding.detail } : {};
    this.#finding = undefined;
    const before = this.#statuses.get(nodeId);
    if (before === status) return;
    this.#statuses.set(nodeId, status);
    const facts = { ...finding, nodeId, status, before, clusterId, region, zone, address, version, generation, roles, transports };
    const eventId = this.#nextId();
    const fields = { ...facts, ...(status === "suspect" && { accuser }), eventId };
    this.#log[status === "dead" ? "warn" : "info"](fields, `member is ${status}`);
    const name = membershipChange(before, status);
    if (name !== undefined) this.#record({ name, detail: { nodeId, status, clusterId, region, zone, address, generation } }, eventId);
  }

  #generationLost({ why: { peerNodeId, seq }, generation }: Extract<NodeNotice, { readonly kind: "generationLost" }>): void {
    const { generation: lost, through } = this.#core.replica.self;
    const facts = { lastSeq: through, lost, generation };
    if (peerNodeId === "") this.#log.error(facts, "another process used this node id for a while; starting a new generation");
    else
      this.#log.error(
        { peerNodeId, seq, ...facts },
        "journal is older than other nodes' copies of this node's records; starting a new generation",
      );
  }

  #nextId(): string {
    this.#count += 1;
    return `${this.#core.identity.boot}-e${this.#count.toString(36)}`;
  }
}

/** Undefined when a suspicion begins or ends, and for a member that was already gone when this node first learned of it. */
function membershipChange(before: MemberStatus | undefined, status: MemberStatus): "member_joined" | "member_left" | undefined {
  const wasHere = before !== undefined && !isGone(before);
  if (isGone(status)) return wasHere ? "member_left" : undefined;
  return wasHere || status === "suspect" ? undefined : "member_joined";
}

function isGone(status: MemberStatus): boolean {
  return status === "dead" || status === "left";
}

/** The entry or node that an event concerns. Empty if it concerns neither. */
function subjectOfEvent({ namespace, name, instanceId, nodeId, peerNodeId }: FabricEvent["detail"]): string {
  if (instanceId !== undefined) return `${namespace}/${name}/${instanceId}`;
  const node = nodeId ?? peerNodeId;
  return node === undefined || node === "" ? "" : subjectOf("node", node);
}

const MAX_ACTION_CHARS = 64;
/** Events that immediately precede a status change of the same member. */
const FINDINGS: ReadonlySet<string> = new Set(["member_suspected", "member_dead"]);
/** Log messages for events whose names are not clear enough. The message for any other event is the event name with spaces. */
const MESSAGES: ReadonlyMap<string, string> = new Map([
  ["answer_refused", "answer from a peer rejected: its cluster or region is not accepted"],
  ["contradicted_own_death", "refuted a report that this node is dead"],
  ["own_clock_off", "clock of this node is wrong: writes refused"],
  ["own_clock_right", "clock of this node is correct again"],
  ["own_id_used_by_another", "another process uses the id of this node"],
  ["own_start_accepted", "other nodes accept this process instance again"],
  ["own_start_refused", "other nodes reject this process instance: writes are refused"],
  ["own_update_refused", "member record of this node rejected"],
  ["own_update_taken", "member record of this node accepted again"],
  ["peer_not_reached", "peer unreachable"],
  ["policy_not_taken", "policy not applied: its cluster is not accepted"],
  ["stranger_refused", "unknown peer rejected"],
  ["woke_up_late", "process was paused for longer than the suspicion timeout"],
]);
/** Audited events that indicate a refused peer or call. All other events get the outcome `noted`. */
const REFUSALS: ReadonlySet<string> = new Set([
  "address_of_another_member",
  "call_refused",
  "own_start_refused",
  "peer_refused",
  "stranger_refused",
  "two_nodes_with_one_id",
]);
