/** Implements waymark.control.v1.ShardService: the shards that this node knows, their changes, and the operations on them. */
import { isDeepStrictEqual } from "node:util";
import { create, type MessageShape, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ShardService, ShardSettingsSchema, ShardStatus } from "../../../gen/waymark/control/v1/shard_pb.js";
import { isReservedNamespace } from "../../catalog/entry/names.ts";
import { decodePageToken, encodePageToken, pageLimit } from "../../catalog/query/query.ts";
import { SHARD_MODES } from "../../control/leadership/records.ts";
import { isUnowned, type ShardMap, type ShardRow } from "../../control/shards/maps.ts";
import { type PlanOwner, simulate } from "../../control/shards/plan.ts";
import { MAX_OWNERS, type RowChange, type ShardChange, type ShardSettings } from "../../control/shards/records.ts";
import { enumValue } from "../../lib/enum-words.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { shardOfKey } from "../../lib/shard-key.ts";
import { demandRole, isOwnerOf } from "../../policy/identity/caller.ts";
import { storeMessage } from "../leadership/leader-message.ts";
import { filterHash, listRoute, paged } from "../list-page.ts";
import type { CallContext, HandlersOf, ServiceDefinition, StreamSource } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import { type AttachParts, attachHandler } from "./attach.ts";
import { orderOf, ShardAccess, type ShardAccessParts } from "./shard-access.ts";
import {
  changeMessage,
  differenceMessage,
  ownerMessages,
  setMessage,
  settingsMessage,
  settingsOf,
  shardMessage,
  statusValue,
  strategyOf,
} from "./shard-messages.ts";
import { shardMessages } from "./shard-watch.ts";
import type { ShardSource } from "./source.ts";

export interface ShardParts extends AttachParts, ShardAccessParts {
  /** The id of this node. */
  readonly servedBy: string;
}

const { method } = ShardService;
type RequestOf<N extends keyof typeof method> = MessageShape<(typeof method)[N]["input"]>;

/** Largest number of changes in a page of the history, because a change has up to 48 shards. */
const MAX_CHANGES = 20;
/** Largest number of reads of histories that a node makes at a time. */
const MAX_READS = 8;

/** An owner that is assumed in a simulation and not attached. */
const NEW_OWNER: PlanOwner = { instance: "", weight: 1, zone: "", region: "", slots: 0, isLeaving: false, isClosed: false };

export function shardService(parts: ShardParts): ServiceDefinition {
  const methods = new ShardMethods(parts);
  return {
    desc: ShardService,
    handlers: {
      apply: { kind: "unary", handle: (request: RequestOf<"apply">, context) => methods.apply(request, context) },
      setShard: { kind: "unary", handle: (request: RequestOf<"setShard">, context) => methods.setShard(request, context) },
      list: { kind: "unary", handle: (request: RequestOf<"list">, context) => methods.list(request, context) },
      delete: { kind: "unary", handle: (request: RequestOf<"delete">, context) => methods.delete(request, context) },
      get: { kind: "unary", handle: (request: RequestOf<"get">, context) => methods.get(request, context) },
      watch: { kind: "server_streaming", open: (request: RequestOf<"watch">, context) => methods.watch(request, context) },
      diff: { kind: "unary", handle: (request: RequestOf<"diff">, context) => methods.diff(request, context) },
      history: { kind: "unary", handle: (request: RequestOf<"history">, context) => methods.history(request, context) },
      attach: attachHandler(parts),
      simulate: { kind: "unary", handle: (request: RequestOf<"simulate">, context) => methods.simulate(request, context) },
    } satisfies HandlersOf<typeof ShardService>,
    routes: [
      listRoute(method.list, (request, context) => methods.list(request, context)),
      listRoute(method.diff, (request, context) => methods.diff(request, context)),
      {
        path: "/control/events/shards",
        parameters: ["namespace", "include_plans"],
        rpc: "watch",
        events: { id: "epoch", resume: "after_epoch", names: ["kind"] },
      },
    ],
  };
}

class ShardMethods {
  readonly #source: ShardSource;
  readonly #servedBy: string;
  readonly #access: ShardAccess;
  readonly #reads = new StreamLimit("reads of the history of shards", MAX_READS);

  constructor(parts: ShardParts) {
    this.#source = parts.source;
    this.#servedBy = parts.servedBy;
    this.#access = new ShardAccess(parts, "streams of shards");
  }

  async apply(request: RequestOf<"apply">, context: CallContext) {
    const { namespace } = request;
    this.#access.demandVisible(namespace, context);
    if (request.settings === undefined) throw invalid("settings", "is required");
    if (isReservedNamespace(namespace)) throw invalid("namespace", `the namespace ${namespace} is reserved for the control plane`);
    const settings = settingsOf(request.settings);
    const { count, service, strategy } = settings;
    const before = this.#source.maps.map(namespace)?.set.value;
    if (before !== undefined && count !== before.count)
      throw invalid("settings.count", `must stay ${before.count} until the set is deleted, got ${count}`);
    const order = { ...orderOf(request, context.caller), kind: "apply", settings } as const;
    const done = before === undefined ? `${count} shards of ${service}, strategy ${strategy}` : changedSettings(before, settings);
    const map = await this.#access.operate(context, order, done);
    return create(method.apply.output, { set: setMessage(this.#source.maps, map, context.time) });
  }

  async setShard(request: RequestOf<"setShard">, context: CallContext) {
    const { namespace, id, change } = request;
    rowOf(this.#access.visibleMap(namespace, context), id);
    if (change.case === undefined) throw invalid("status", "status, weight or hint is required");
    const mode = change.case === "status" ? SHARD_MODES.find((each) => enumValue(ShardStatus, each) === change.value) : undefined;
    const weight = change.case === "weight" ? change.value : undefined;
    const hint = change.case === "hint" ? change.value : undefined;
    const order = { ...orderOf(request, context.caller), kind: "setShard", id, mode, weight, hint } as const;
    const map = await this.#access.operate(context, order, `${change.case} ${mode ?? weight ?? JSON.stringify(hint)}`);
    return create(method.setShard.output, { shard: shardMessage(namespace, rowOf(map, id)), epoch: BigInt(map.epoch) });
  }

  async delete(request: RequestOf<"delete">, context: CallContext) {
    const { rows } = this.#access.visibleMap(request.namespace, context);
    const order = { ...orderOf(request, context.caller), kind: "delete" } as const;
    await this.#access.record(context, order, `${rows.length} shards`);
    return create(method.delete.output);
  }

  list(request: RequestOf<"list">, context: CallContext) {
    const source = this.#source;
    const { namespace, owner, statuses, text, limit, pageToken } = request;
    const maps = namespace === "" ? this.#access.visibleMaps(context) : [this.#access.visibleMap(namespace, context)];
    const matches = shardFilter(request);
    const hash = filterHash("shards", namespace, owner, ...statuses, text);
    const found = rowsAfter(maps, decodePageToken(pageToken, hash), matches, pageLimit(limit) + 1);
    const page = found.slice(0, pageLimit(limit));
    const last = page.at(-1);
    const nextPageToken =
      last !== undefined && found.length > page.length ? encodePageToken(`${last.map.namespace} ${last.row.id}`, hash) : "";
    const pageMaps = namespace === "" ? new Set(page.map(({ map }) => map)) : maps;
    const rowsIn = (map: ShardMap) => page.flatMap((each) => (each.map === map ? [each.row] : []));
    return create(method.list.output, {
      shards: page.map(({ map, row }) => shardMessage(map.namespace, row)),
      owners: [...pageMaps].flatMap((map) => ownerMessages(source.maps, map, rowsIn(map))),
      sets: [...pageMaps].map((map) => setMessage(source.maps, map, context.time)),
      store: storeMessage(source.store(context.time)),
      nextPageToken,
      servedBy: this.#servedBy,
      generatedAt: timestampFromMs(context.time.wallMs),
    });
  }

  get({ namespace, shard }: RequestOf<"get">, context: CallContext) {
    if (shard.case === undefined) throw invalid("id", "id or key is required");
    const map = this.#access.visibleMap(namespace, context);
    const row = rowOf(map, shard.case === "id" ? shard.value : shardOfKey(namespace, map.rows.length, shard.value));
    const { maps } = this.#source;
    return create(method.get.output, {
      shard: shardMessage(namespace, row),
      owners: ownerMessages(maps, map, [row]),
      set: setMessage(maps, map, context.time),
      store: storeMessage(this.#source.store(context.time)),
    });
  }

  watch(request: RequestOf<"watch">, context: CallContext): StreamSource {
    const { namespace, includePlans } = request;
    const { caller } = context;
    const map = this.#access.visibleMap(namespace, context, "watch");
    if (includePlans && !isOwnerOf(caller, namespace)) demandRole(caller, "mesh.operate", " or own the namespace, to include plans");
    return this.#access.stream(namespace, context, shardMessages(this.#source, request, map));
  }

  async diff({ namespace, fromEpoch, toEpoch, limit, pageToken }: RequestOf<"diff">, context: CallContext) {
    const { epoch, set } = this.#access.visibleMap(namespace, context);
    const from = Number(fromEpoch);
    const to = toEpoch === 0n ? epoch : Number(toEpoch);
    if (to > epoch) throw invalid("to_epoch", `the newest epoch of ${namespace} on this node is ${epoch}, got ${to}`);
    if (from > to) throw invalid("from_epoch", `must be at most ${to}, got ${from}`);
    const { oldestEpoch } = set.value;
    if (from < oldestEpoch - 1)
      throw new WaymarkError(
        "not_found",
        `the changes of ${namespace} after epoch ${from} are no longer kept: the oldest is ${oldestEpoch}`,
        {
          metadata: { oldest_epoch: String(oldestEpoch) },
        },
      );
    const changes = await this.#changes(context, namespace, from, to);
    const rows = differences(changes.flatMap((change) => change.rows));
    const hash = filterHash("shard diff", namespace, from, to);
    const { page, nextPageToken } = paged(rows, ({ id }) => padded(id), { limit, pageToken, hash });
    return create(method.diff.output, { shards: page.map(differenceMessage), fromEpoch, toEpoch: BigInt(to), nextPageToken });
  }

  async history({ namespace, limit, pageToken }: RequestOf<"history">, context: CallContext) {
    const { epoch, set } = this.#access.visibleMap(namespace, context);
    const hash = filterHash("shard history", namespace);
    const upTo = Number(decodePageToken(pageToken, hash) || epoch);
    const oldest = set.value.oldestEpoch - 1;
    const after = Math.max(oldest, upTo - Math.min(limit || MAX_CHANGES, MAX_CHANGES));
    const changes = upTo <= after ? [] : await this.#changes(context, namespace, after, upTo);
    const nextPageToken = after <= oldest ? "" : encodePageToken(String(after), hash);
    return create(method.history.output, { changes: changes.toReversed().map(changeMessage), nextPageToken });
  }

  async #changes({ caller }: CallContext, namespace: string, after: number, upTo: number): Promise<readonly ShardChange[]> {
    const close = this.#reads.open(caller);
    try {
      return await this.#source.shardHistory(namespace, after, upTo);
    } finally {
      close();
    }
  }

  simulate(request: RequestOf<"simulate">, context: CallContext) {
    const { namespace, strategy, owners: changed, removedOwners } = request;
    const { rows, set } = this.#access.visibleMap(namespace, context);
    const owners = new Map<string, PlanOwner>();
    for (const [instance, { value }] of this.#source.maps.owners(namespace))
      if (value !== undefined) owners.set(instance, { ...value, instance, isClosed: value.health === "degraded" });
    removedOwners.forEach((instance, i) => {
      if (!owners.delete(instance)) throw invalid(`removed_owners[${i}]`, `${instance} is not an owner in ${namespace}`);
    });
    for (const owner of changed) {
      const given = Object.entries(owner).filter(([, value]) => value !== 0 && value !== "");
      owners.set(owner.instance, { ...NEW_OWNER, ...owners.get(owner.instance), ...Object.fromEntries(given) });
    }
    if (removedOwners.length > 0 && owners.size === 0)
      throw invalid("removed_owners", `no owner would be left, so all shards of ${namespace} would have no owner`);
    if (owners.size > MAX_OWNERS)
      throw new WaymarkError("quota_exceeded", `owners: ${namespace} would have ${owners.size} owners, and the maximum is ${MAX_OWNERS}`);
    const shards = rows
      .filter(({ mode }) => mode !== "disabled")
      .map((row) => ({ ...row, owner: row.next || row.owner, mayMove: row.mode === "active" }));
    const input = { namespace, strategy: strategyOf(strategy) ?? set.value.strategy, owners: [...owners.values()], shards };
    const simulation = simulate(input, { isForced: false });
    return create(method.simulate.output, {
      ...simulation,
      moves: simulation.moves.map(({ id, from: before, to: after }) => ({ id, before, after })),
      imbalanceRatioBefore: simulation.imbalanceBefore,
      imbalanceRatioAfter: simulation.imbalanceAfter,
    });
  }
}

/** The first `count` rows that match, after a place: the namespace and the id of a row. The rows of a map are in order, so a page of a large set is cheap. */
function rowsAfter(maps: readonly ShardMap[], place: string, matches: (row: ShardRow) => boolean, count: number) {
  const [from = "", afterId = ""] = place.split(" ");
  const found: { readonly map: ShardMap; readonly row: ShardRow }[] = [];
  for (const map of maps.toSorted((a, b) => (a.namespace < b.namespace ? -1 : 1))) {
    if (map.namespace < from) continue;
    for (let id = map.namespace === from ? Number(afterId) + 1 : 0; id < map.rows.length && found.length < count; id++) {
      const row = map.rows[id];
      if (row !== undefined && matches(row)) found.push({ map, row });
    }
  }
  return found;
}

function shardFilter({ owner, statuses, text }: RequestOf<"list">): (row: ShardRow) => boolean {
  const [wanted, part] = [new Set(statuses), text.toLowerCase()];
  const textOf = ({ id, owner: current, next, hint, ticket, reason }: ShardRow) => [id, current, next, hint, ticket, reason].join("\0");
  return (row) =>
    (owner === "" || row.owner === owner) &&
    (wanted.size === 0 || wanted.has(statusValue(row)) || (wanted.has(ShardStatus.UNOWNED) && isUnowned(row))) &&
    (part === "" || textOf(row).toLowerCase().includes(part));
}

/** Orders ids like numbers. */
function padded(id: number): string {
  return String(id).padStart(5, "0");
}

function rowOf({ namespace, rows }: ShardMap, id: number): ShardRow {
  const row = rows[id];
  if (row === undefined) throw invalid("id", `${namespace} has the shards 0 to ${rows.length - 1}, got ${id}`);
  return row;
}

/** The changed settings, for the audit log, such as `approval "other" → "none"`. */
function changedSettings(before: ShardSettings, after: ShardSettings): string {
  const old = settingTexts(before);
  const changed = [...settingTexts(after)].filter(([name, text]) => old.get(name) !== text);
  return changed.map(([name, text]) => `${name} ${old.get(name)} → ${text}`).join(", ") || "no setting changed";
}

function settingTexts(settings: ShardSettings): ReadonlyMap<string, string> {
  const json = toJson(ShardSettingsSchema, settingsMessage(settings), { useProtoFieldName: true, alwaysEmitImplicit: true });
  return new Map(Object.entries(json instanceof Object ? json : {}).map(([name, value]) => [name, JSON.stringify(value)]));
}

/** The first state before and the last state after the changes, of each shard for which they differ. */
function differences(changes: readonly RowChange[]): readonly RowChange[] {
  const byId = new Map<number, RowChange>();
  for (const { id, before, after } of changes) byId.set(id, { id, before: byId.get(id)?.before ?? before, after });
  return [...byId.values()].filter(({ before, after }) => !isDeepStrictEqual(before, after));
}
