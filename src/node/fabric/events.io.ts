/** Tells the log and the audit what happens in the mesh. An event has the same id in both. */
import { type EntryKey, keyParts } from "../../catalog/record/record.ts";
import type { FabricEvent } from "../../fabric/io-types.ts";
import type { MemberStatus, MemberUpdate } from "../../fabric/wire/messages.ts";
import type { Log } from "../../lib/log.io.ts";
import type { HandedOver } from "../core/departure.ts";
import type { Told } from "../core-io.ts";
import { type NodeCore, now } from "../rooms.io.ts";

export class FabricEvents {
  readonly #core: NodeCore;
  readonly #log: Log;
  /** Statuses of the members that changed last. The map is bounded, because nodes with new names come and go for as long as this one runs. */
  readonly #statuses = new Map<string, MemberStatus>();
  #count = 0;

  constructor(core: NodeCore, log: Log) {
    this.#core = core;
    this.#log = log;
  }

  /** Takes what the machine tells. */
  told(told: Told): void {
    if (told.kind === "event") this.tell(told.event);
    else if (told.kind === "memberChanged") this.member(told.update);
    else if (told.kind === "generationLost") this.#generationLost(told);
    else if (told.kind === "staticEnded") this.staticEnded(keyParts(told.key));
    else if (told.kind === "takenOver") this.#core.metrics.counter("mesh_taken_over_entries_total", {}).inc(told.count);
    else if (told.kind === "handedOver") this.handedOver(told);
  }

  tell({ name, severity, isAudited, detail }: FabricEvent): void {
    const eventId = this.#nextId();
    this.#core.metrics.inc("mesh_events_total", { event: name });
    this.#log[severity]({ ...detail, event: name, eventId }, name.replaceAll("_", " "));
    if (!isAudited) return;
    const facts = Object.entries(detail).map(([key, value]) => `${key}=${value}`);
    this.#core.audit?.record({
      atWallMs: now().wallMs,
      kind: "admin",
      // The name that a stranger gives itself is in the detail.
      principal: "",
      tenant: "",
      source: `${detail["address"] ?? ""}`,
      action: `mesh.${name}`.slice(0, MAX_ACTION_CHARS),
      namespace: "",
      outcome: REFUSALS.has(name) ? "denied" : "noted",
      reason: `${detail["reason"] ?? name}`,
      rule: "",
      before: "",
      after: "",
      detail: [...facts, `event=${eventId}`].join(" "),
    });
  }

  /** A record of another node ended a static entry of this one. The entry's client renews nothing, so it would never hear of it. */
  staticEnded({ namespace, name, instanceId }: EntryKey): void {
    const detail = { namespace, name, instanceId, reason: "unregistered_elsewhere" };
    this.tell({ name: "static_entry_ended", severity: "warn", isAudited: true, detail });
  }

  /** This node leaves: tells what became of its static entries. By then no listener is open that could be asked. */
  handedOver({ takenCount, leftCount, unansweredCount, localEndedCount }: HandedOver): void {
    const detail = { takenCount, leftCount, localEndedCount };
    const isAudited = takenCount + leftCount + localEndedCount > 0;
    // Entries that are left stay, and this node says that it restarts.
    if (leftCount > 0) this.tell({ name: "static_entries_left", severity: "warn", isAudited, detail: { ...detail, unansweredCount } });
    else this.tell({ name: "static_entries_handed_over", severity: "info", isAudited, detail });
  }

  /** A member changed. Only changes of its status are told. */
  member({ nodeId, status, clusterId, region, zone, address, version, generation, accuser, roles, transports }: MemberUpdate): void {
    const before = this.#statuses.get(nodeId);
    if (before === status) return;
    this.#statuses.delete(nodeId);
    this.#statuses.set(nodeId, status);
    const [oldest] = this.#statuses.keys();
    if (this.#statuses.size > MAX_STATUSES && oldest !== undefined) this.#statuses.delete(oldest);
    const facts = { nodeId, status, before, clusterId, region, zone, address, version, generation, roles, transports };
    const told = { ...facts, ...(status === "suspect" && { accuser }), eventId: this.#nextId() };
    this.#log[status === "dead" ? "warn" : "info"](told, `member is ${status}`);
  }

  #generationLost({ why: { peerNodeId, seq }, generation }: Extract<Told, { readonly kind: "generationLost" }>): void {
    const { generation: lost, through } = this.#core.replica.self;
    const facts = { lastSeq: through, lost, generation };
    if (peerNodeId === "") this.#log.error(facts, "another start went under this id for a while, taking a new generation");
    else this.#log.error({ peerNodeId, seq, ...facts }, "journal is older than what others know, taking a new generation");
  }

  #nextId(): string {
    this.#count += 1;
    return `${this.#core.identity.boot}-e${this.#count.toString(36)}`;
  }
}

const MAX_ACTION_CHARS = 64;
/** Audited events in which somebody was refused. All other events are only noted. */
const REFUSALS: ReadonlySet<string> = new Set([
  "address_of_another_member",
  "call_refused",
  "own_start_refused",
  "peer_refused",
  "stranger_refused",
  "two_nodes_with_one_id",
]);
const MAX_STATUSES = 10_000;
