/**
 * SetMaintenance: checks a maintenance override, sends it to the nodes where the entries are registered, and collects the results (semantics.md,
 * Maintenance).
 */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Reason as WireReason } from "../../../gen/waymark/catalog/v1/reason_pb.js";
import { type SetMaintenanceRequest, SetMaintenanceResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { parseKey } from "../../catalog/entry/codec.ts";
import type { EntryBounds } from "../../catalog/entry/names.ts";
import { type KeyText, keyParts } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { RequestedOverride } from "../../discovery/registrar/maintenance.ts";
import type { OverrideTarget, Registrar } from "../../discovery/registrar/registrar.ts";
import { reasonOf } from "../../fabric/maintenance-calls.ts";
import type { MaintenanceCall, MaintenanceResult } from "../../fabric/wire/messages.ts";
import { type ErrorReason, invalid, rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import { timeMs } from "../../lib/protowire.ts";
import { type Caller, demandRole, hasRole } from "../../policy/identity/caller.ts";
import type { CallContext, NodeIdentity } from "../service.ts";

export interface MaintenanceServiceParts {
  readonly identity: Pick<NodeIdentity, "nodeId" | "clusterId">;
  readonly bounds: EntryBounds;
  readonly registrar: Pick<Registrar, "orderMaintenance" | "orderTarget" | "entriesOfNode">;
  readonly reads: { readonly replica: Pick<Replica, "origins"> };
  /** Resolves when all staged records are durable. Undefined if no record is staged. */
  readonly durable: () => Promise<void> | undefined;
  /**
   * Resolves when, after a pause of this process, other nodes have confirmed that no other process uses this node's id. Undefined if there was no
   * pause.
   */
  readonly confirmed: () => Promise<void> | undefined;
  /** Throws `clock_skew` or `not_ready` while this node rejects writes. */
  readonly checkWrites: () => void;
  readonly checkCaughtUp: () => void;
  /** Sends an override to another node. */
  readonly maintain: (nodeId: string, maintain: MaintenanceCall) => Promise<MaintenanceResult>;
  /** Records an accepted override in the audit log. */
  readonly onMaintenance: (caller: Caller, order: RequestedOverride, accepted: AcceptedOverride) => void;
}

/** The subjects of an accepted override, as recorded in the audit log. */
export interface AcceptedOverride {
  readonly requestId: string;
  /** The node in the request. Empty if the request has keys. */
  readonly nodeId: string;
  /** The keys for which the override was accepted. Empty if the request has a node. */
  readonly keys: readonly KeyText[];
  /** Number of changed entries. */
  readonly count: number;
}

/** Longest duration of a maintenance override. */
const MAX_DAYS = 366;
const MAX_UNTIL_MS = MAX_DAYS * 86_400_000;
/** Largest number of keys in one call to a node. */
const CHUNK = 1000;
/** Largest number of nodes that are called concurrently. */
const MAX_NODES = 16;
/** Largest number of refusals in an answer. */
const MAX_REFUSALS = 1000;

/** Retry delays for refusals after which a retry may succeed. */
const RETRY_MS: Partial<Record<ErrorReason, number>> = {
  origin_away: 5000,
  version_conflict: 1000,
  not_ready: 1000,
  draining: 1000,
  clock_skew: 1000,
  store_unavailable: 1000,
};

interface RefusedKey {
  /** Index of the key in the request. */
  readonly at: number;
  readonly key: KeyText;
  readonly reason: ErrorReason;
  readonly detail: string;
}

/** A key with its index in the request. */
interface NumberedKey {
  readonly at: number;
  readonly key: KeyText;
}

/** The results of an override so far. */
class OverrideProgress {
  changed = 0;
  unchanged = 0;
  readonly refusals: RefusedKey[] = [];

  refuse(places: readonly NumberedKey[], reason: ErrorReason, detail: string): void {
    for (const { at, key } of places) this.refusals.push({ at, key, reason, detail });
  }

  /** Adds a node's answer for these keys. */
  take(
    places: readonly NumberedKey[],
    changed: number,
    refusals: readonly { readonly index: number; readonly reason: ErrorReason; readonly detail: string }[],
  ): void {
    const refused = refusals.flatMap(({ index, reason, detail }) => {
      const place = places[index];
      return place === undefined ? [] : [{ ...place, reason, detail }];
    });
    this.refusals.push(...refused);
    this.changed += Math.min(changed, places.length - refused.length);
    this.unchanged += Math.max(0, places.length - refused.length - changed);
  }
}

export class MaintenanceMethods {
  readonly #parts: MaintenanceServiceParts;

  constructor(parts: MaintenanceServiceParts) {
    this.#parts = parts;
  }

  async set(request: SetMaintenanceRequest, { caller, time, requestId }: CallContext) {
    const { confirmed, checkWrites, checkCaughtUp } = this.#parts;
    const order = orderOf(request, caller, time.wallMs);
    const keys = this.#keysOf(request);
    await confirmed();
    checkWrites();
    checkCaughtUp();
    const outcome = new OverrideProgress();
    const byNode = keys === undefined ? this.#ofNode(request.nodeId, caller, outcome) : this.#ofKeys(keys, caller, outcome);
    const waiting = [...byNode];
    const work = async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await this.#orderAt(next, order, time, outcome);
    };
    await Promise.all(Array.from({ length: MAX_NODES }, work));
    if (outcome.changed > 0) {
      const refused = new Set(outcome.refusals.map(({ key }) => key));
      const accepted = keys?.filter((key) => !refused.has(key)) ?? [];
      this.#parts.onMaintenance(caller, order, { requestId, nodeId: request.nodeId, keys: accepted, count: outcome.changed });
    }
    return answerOf(outcome);
  }

  #keysOf({ keys, nodeId }: SetMaintenanceRequest): readonly KeyText[] | undefined {
    const { bounds, identity } = this.#parts;
    if ((keys.length === 0) === (nodeId === "")) throw invalid("keys", "set either keys or node_id");
    if (nodeId !== "") return undefined;
    if (keys.length > bounds.maxRequestEntries)
      throw invalid("keys", `must have at most ${bounds.maxRequestEntries} items (limits.max_request_entries), got ${keys.length}`);
    const known = new Map<KeyText, number>();
    keys.forEach((each, i) => {
      const key = parseKey(each, `keys[${i}]`, identity.clusterId, bounds);
      const twin = known.get(key);
      if (twin !== undefined) throw invalid(`keys[${i}]`, `duplicates keys[${twin}]: list each key once`);
      known.set(key, i);
    });
    return [...known.keys()];
  }

  /** Groups the keys by the node where each is registered. All keys are checked before any is changed. */
  #ofKeys(keys: readonly KeyText[], caller: Caller, outcome: OverrideProgress): ReadonlyMap<string, readonly NumberedKey[]> {
    const { registrar } = this.#parts;
    const targets = keys.map((key, i) => registrar.orderTarget(caller, key, `keys[${i}]`));
    const byNode = new Map<string, NumberedKey[]>();
    targets.forEach((target, at) => {
      const place = { at, key: keys[at] ?? EMPTY };
      if (target === undefined) return outcome.refuse([place], "not_found", "no such entry is registered");
      if (target.isAway) return outcome.refuse([place], "origin_away", awayText(target));
      const places = byNode.get(target.nodeId);
      if (places === undefined) byNode.set(target.nodeId, [place]);
      else places.push(place);
      return undefined;
    });
    return byNode;
  }

  #ofNode(nodeId: string, caller: Caller, outcome: OverrideProgress): ReadonlyMap<string, readonly NumberedKey[]> {
    demandRole(caller, "mesh.operate");
    const found = this.#parts.registrar.entriesOfNode(nodeId);
    if (found === undefined)
      throw new WaymarkError("not_found", `node_id: unknown node ${JSON.stringify(nodeId)}: this cluster has no such node`);
    const places = found.keys.map((key, at) => ({ at, key }));
    if (!found.isAway) return new Map([[nodeId, places]]);
    outcome.refuse(places, "origin_away", awayText({ nodeId }));
    return new Map();
  }

  async #orderAt(
    [nodeId, places]: readonly [string, readonly NumberedKey[]],
    order: RequestedOverride,
    time: CallContext["time"],
    outcome: OverrideProgress,
  ): Promise<void> {
    for (let from = 0; from < places.length; from += CHUNK) {
      const chunk = places.slice(from, from + CHUNK);
      if (nodeId === this.#parts.identity.nodeId) await this.#orderHere(chunk, order, time, outcome);
      else await this.#orderElsewhere(nodeId, chunk, order, outcome);
    }
  }

  async #orderHere(
    places: readonly NumberedKey[],
    order: RequestedOverride,
    time: CallContext["time"],
    outcome: OverrideProgress,
  ): Promise<void> {
    const { registrar, durable } = this.#parts;
    try {
      const keys = places.map(({ key }) => key);
      const outcomes = registrar.orderMaintenance(keys, order, time);
      await durable();
      const changed = outcomes.filter(({ kind }) => kind === "changed").length;
      const refusals = outcomes.flatMap((each, index) => (each.kind === "refused" ? [{ ...each, index }] : []));
      outcome.take(places, changed, refusals);
    } catch (error) {
      rethrowInvariant(error);
      if (error instanceof WaymarkError) outcome.refuse(places, error.reason, textOf(error));
      else outcome.refuse(places, "store_unavailable", "the journal of this node rejects writes");
    }
  }

  async #orderElsewhere(
    nodeId: string,
    places: readonly NumberedKey[],
    order: RequestedOverride,
    outcome: OverrideProgress,
  ): Promise<void> {
    const { isOn, reason, untilMs, giver, isOperator } = order;
    const keys = places.map(({ key }) => keyParts(key));
    const said = { keys, isOn, reason, untilMs, principal: giver, isForAll: isOperator };
    const { response, refusal } = await this.#parts.maintain(nodeId, said);
    if (response !== undefined) {
      const at = (detail: string) => `node ${nodeId}: ${detail}`;
      const refusals = response.refusals.map((each) => ({ index: each.index, reason: reasonOf(each.reason), detail: at(each.detail) }));
      outcome.take(places, response.changed, refusals);
    } else if (refusal !== undefined) {
      outcome.refuse(places, "origin_away", `node ${nodeId}, which owns the entry, rejected the override: ${refusal}`);
    } else outcome.refuse(places, "origin_away", awayText({ nodeId }));
  }
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- never used: each index has a key
const EMPTY = "" as KeyText;

function awayText({ nodeId }: Pick<OverrideTarget, "nodeId">): string {
  return `node ${nodeId}, which owns the entry, is unreachable`;
}

/** Returns the message of an error without its reason, because a refusal has a separate field for the reason. */
function textOf({ message, reason }: WaymarkError): string {
  return message.slice(`${reason}: `.length);
}

/** Returns the contract's name for a reason. */
function upper(reason: ErrorReason): Uppercase<ErrorReason> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- toUpperCase returns the uppercase type
  return reason.toUpperCase() as Uppercase<ErrorReason>;
}

function orderOf({ on, reason, until }: SetMaintenanceRequest, caller: Caller, wallMs: number): RequestedOverride {
  const by = { giver: caller.principal, isOperator: hasRole(caller, "mesh.operate") };
  if (!on) {
    if (reason !== "") throw invalid("reason", "must be empty when on is false");
    if (until !== undefined) throw invalid("until", "must be absent when on is false");
    return { isOn: false, reason: "", untilMs: 0, ...by };
  }
  if (until === undefined) return { isOn: true, reason, untilMs: 0, ...by };
  const untilMs = Math.trunc(timeMs(until));
  if (!(untilMs > wallMs)) throw invalid("until", "must be in the future");
  if (untilMs > wallMs + MAX_UNTIL_MS) throw invalid("until", `must be at most ${MAX_DAYS} days from now`);
  return { isOn: true, reason, untilMs, ...by };
}

function answerOf({ changed, unchanged, refusals }: OverrideProgress) {
  const first = refusals.toSorted((a, b) => a.at - b.at).slice(0, MAX_REFUSALS);
  return create(SetMaintenanceResponseSchema, {
    changed: BigInt(changed),
    unchanged: BigInt(unchanged),
    refused: BigInt(refusals.length),
    refusals: first.map(({ key, reason, detail }) => {
      const retryMs = RETRY_MS[reason];
      return {
        key: keyParts(key),
        reason: WireReason[upper(reason)],
        message: detail,
        ...(retryMs !== undefined && { retryAfter: durationFromMs(retryMs) }),
      };
    }),
  });
}
