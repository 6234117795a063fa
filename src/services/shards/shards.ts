/** Implements waymark.control.v1.ShardService: the shards that this node knows, their changes, and the operations on them. */
import { create, type MessageShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ShardService, ShardStatus } from "../../../gen/waymark/control/v1/shard_pb.js";
import { isReservedNamespace } from "../../catalog/entry/names.ts";
import { decodePageToken, encodePageToken } from "../../catalog/query/query.ts";
import { SHARD_MODES } from "../../control/leadership/records.ts";
import type { ShardMap, ShardRow } from "../../control/shards/maps.ts";
import { type PlanOwner, simulate } from "../../control/shards/plan.ts";
import { MAX_OWNERS, type RowChange } from "../../control/shards/records.ts";
import { enumValue } from "../../lib/enum-words.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { fnv64, hashHex } from "../../lib/hash64.ts";
import { shardOfKey } from "../../lib/shard-key.ts";
import { demandRole, isOwnerOf } from "../../policy/identity/caller.ts";
import { storeMessage } from "../leadership/leader-message.ts";
import { listRoute, paged } from "../list-page.ts";
import type { CallContext, HandlersOf, ServiceDefinition, StreamSource } from "../service.ts";
import { type AttachParts, attachHandler } from "./attach.ts";
import { orderOf, ShardAccess, type ShardAccessParts } from "./shard-access.ts";
import {
  changeMessage,
  differenceMessage,
  ownerMessages,
  setMessage,
  settingsOf,
  shardMessage,
  statusValue,
  strategyOf,
} from "./shard-messages.ts";
import { shardMessages } from "./shard-watch.ts";
import { knownMap, type ShardSource } from "./source.ts";

export interface ShardParts extends AttachParts, ShardAccessParts {
  /** The id of this node. */
  readonly servedBy: string;
}

const { method } = ShardService;
type RequestOf<N extends keyof typeof method> = MessageShape<(typeof method)[N]["input"]>;

/** Largest number of changes in a page of the history, because a change has up to 50 shards. */
const MAX_CHANGES = 100;

export function shardService(parts: ShardParts): ServiceDefinition {
  const methods = new ShardMethods(parts);
  return {
    desc: ShardService,
    handlers: {
      apply: { kind: "unary", handle: (request: RequestOf<"apply">, context) => methods.apply(request, context) },
      setShard: { kind: "unary", handle: (request: RequestOf<"setShard">, context) => methods.setShard(request, context) },
      list: { kind: "unary", handle: (request: RequestOf<"list">, context) => methods.list(request, context) },
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

  constructor(parts: ShardParts) {
    this.#source = parts.source;
    this.#servedBy = parts.servedBy;
    this.#access = new ShardAccess(parts, "streams of shards");
  }

  async apply(request: RequestOf<"apply">, context: CallContext) {
    const { namespace } = request;
    if (request.settings === undefined) throw invalid("settings", "is required");
    if (isReservedNamespace(namespace)) throw invalid("namespace", `the namespace ${namespace} is reserved for the control plane`);
    const settings = settingsOf(request.settings);
    const { count, service, strategy } = settings;
    const known = this.#source.maps.map(namespace)?.rows.length ?? count;
    if (count !== known)
      throw invalid("settings.count", `must stay ${known}; a set with another count needs another namespace, got ${count}`);
    const order = { ...orderOf(request, context.caller), kind: "apply", settings } as const;
    const map = await this.#access.operate(context, order, `${count} shards of ${service}, strategy ${strategy}`);
    return create(method.apply.output, { set: setMessage(map, this.#owners(namespace), context.time) });
  }

  async setShard(request: RequestOf<"setShard">, context: CallContext) {
    const { namespace, id, change } = request;
    rowOf(knownMap(this.#source, namespace), id);
    const changes = { mode: undefined, weight: undefined, hint: undefined, ...changedFields(change) };
    const order = { ...orderOf(request, context.caller), kind: "setShard", id, ...changes } as const;
    const done = `${change.case} ${changes.mode ?? changes.weight ?? JSON.stringify(changes.hint)}`;
    const map = await this.#access.operate(context, order, done);
    return create(method.setShard.output, { shard: shardMessage(namespace, rowOf(map, id)), epoch: BigInt(map.epoch) });
  }

  list(request: RequestOf<"list">, context: CallContext) {
    const { namespace, owner, statuses, text, limit, pageToken } = request;
    const maps = namespace === "" ? this.#access.visibleMaps(context) : [this.#access.visibleMap(namespace, context)];
    const matches = shardFilter(request);
    const found = maps.flatMap((map) => map.rows.filter(matches).map((row) => ({ map, row })));
    const hash = hashHex(fnv64(`shards\0${namespace}\0${owner}\0${statuses.join(",")}\0${text}`));
    const { page, nextPageToken } = paged(found, ({ map, row }) => `${map.namespace} ${padded(row.id)}`, { limit, pageToken, hash });
    const pageMaps = namespace === "" ? new Set(page.map(({ map }) => map)) : maps;
    const ownersIn = (map: ShardMap) => {
      const rows = page.flatMap((each) => (each.map === map ? [each.row] : []));
      return ownerMessages(map.namespace, rows, this.#owners(map.namespace));
    };
    return create(method.list.output, {
      shards: page.map(({ map, row }) => shardMessage(map.namespace, row)),
      owners: [...pageMaps].flatMap(ownersIn),
      sets: [...pageMaps].map((map) => setMessage(map, this.#owners(map.namespace), context.time)),
      store: storeMessage(this.#source.store(context.time)),
      nextPageToken,
      servedBy: this.#servedBy,
      generatedAt: timestampFromMs(context.time.wallMs),
    });
  }

  get({ namespace, shard }: RequestOf<"get">, context: CallContext) {
    if (shard.case === undefined) throw invalid("id", "id or key is required");
    const map = this.#access.visibleMap(namespace, context);
    const row = rowOf(map, shard.case === "id" ? shard.value : shardOfKey(namespace, map.rows.length, shard.value));
    const owners = this.#owners(namespace);
    return create(method.get.output, {
      shard: shardMessage(namespace, row),
      owners: ownerMessages(namespace, [row], owners),
      set: setMessage(map, owners, context.time),
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
    const changes = await this.#source.shardHistory(namespace, from, to);
    const rows = differences(changes.flatMap((change) => change.rows));
    const hash = hashHex(fnv64(`shard diff\0${namespace}\0${from}\0${to}`));
    const { page, nextPageToken } = paged(rows, ({ id }) => padded(id), { limit, pageToken, hash });
    const epochs = { fromEpoch, toEpoch: BigInt(to) };
    return create(method.diff.output, { shards: page.map(differenceMessage), ...epochs, nextPageToken });
  }

  async history({ namespace, limit, pageToken }: RequestOf<"history">, context: CallContext) {
    const { epoch, set } = this.#access.visibleMap(namespace, context);
    const hash = hashHex(fnv64(`shard history\0${namespace}`));
    const upTo = Number(decodePageToken(pageToken, hash) || epoch);
    const after = Math.max(set.value.oldestEpoch - 1, upTo - Math.min(limit || MAX_CHANGES, MAX_CHANGES), 0);
    const changes = upTo <= after ? [] : await this.#source.shardHistory(namespace, after, upTo);
    const nextPageToken = after <= set.value.oldestEpoch - 1 || after === 0 ? "" : encodePageToken(String(after), hash);
    return create(method.history.output, { changes: changes.toReversed().map(changeMessage), nextPageToken });
  }

  simulate(request: RequestOf<"simulate">, context: CallContext) {
    const { namespace, strategy, owners: changed, removedOwners } = request;
    const { rows, set } = this.#access.visibleMap(namespace, context);
    const owners = new Map<string, PlanOwner>();
    for (const [instance, { value }] of this.#owners(namespace))
      if (value !== undefined) owners.set(instance, { ...value, instance, isClosed: value.health === "degraded" });
    removedOwners.forEach((instance, i) => {
      if (!owners.delete(instance)) throw invalid(`removed_owners[${i}]`, `${instance} is not an owner in ${namespace}`);
    });
    for (const { instance, weight, zone, region, slots } of changed) {
      const known = owners.get(instance) ?? { weight: 1, zone: "", region: "", slots: 0, isLeaving: false, isClosed: false };
      const facts = {
        weight: weight || known.weight,
        zone: zone || known.zone,
        region: region || known.region,
        slots: slots || known.slots,
      };
      owners.set(instance, { ...known, instance, ...facts });
    }
    if (owners.size > MAX_OWNERS)
      throw new WaymarkError("quota_exceeded", `owners: ${namespace} would have ${owners.size} owners, and the maximum is ${MAX_OWNERS}`);
    const shards = rows
      .filter(({ mode }) => mode !== "disabled")
      .map((row) => ({ ...row, owner: row.next || row.owner, mayMove: row.mode === "active" }));
    const input = { namespace, strategy: strategyOf(strategy) ?? set.value.strategy, owners: [...owners.values()], shards };
    const { moves, movedRatio, imbalanceBefore, imbalanceAfter, planCount } = simulate(input, { isForced: false });
    return create(method.simulate.output, {
      moves: moves.map(({ id, from: before, to: after }) => ({ id, before, after })),
      movedRatio,
      imbalanceRatioBefore: imbalanceBefore,
      imbalanceRatioAfter: imbalanceAfter,
      planCount,
    });
  }

  #owners(namespace: string) {
    return this.#source.maps.owners(namespace);
  }
}

function shardFilter({ owner, statuses, text }: RequestOf<"list">): (row: ShardRow) => boolean {
  const [wanted, part] = [new Set(statuses), text.toLowerCase()];
  return (row) =>
    (owner === "" || row.owner === owner) &&
    (wanted.size === 0 || wanted.has(statusValue(row))) &&
    (part === "" || textOf(row).includes(part));
}

/** Orders ids like numbers. */
function padded(id: number): string {
  return String(id).padStart(5, "0");
}

function textOf({ id, owner, next, hint, ticket, reason }: ShardRow): string {
  return [id, owner, next, hint, ticket, reason].join("\0").toLowerCase();
}

function rowOf({ namespace, rows }: ShardMap, id: number): ShardRow {
  const row = rows[id];
  if (row === undefined) throw invalid("id", `${namespace} has the shards 0 to ${rows.length - 1}, got ${id}`);
  return row;
}

/** The first state before and the last state after the changes, of each shard for which they differ. */
function differences(changes: readonly RowChange[]): readonly RowChange[] {
  const byId = new Map<number, RowChange>();
  for (const { id, before, after } of changes) byId.set(id, { id, before: byId.get(id)?.before ?? before, after });
  return [...byId.values()].filter(({ before, after }) => {
    const isSame = before.owner === after.owner && before.next === after.next;
    return !(isSame && before.fence === after.fence && before.status === after.status);
  });
}

/** The zone of a hint can be omitted. */
const HINT = /^(?:[A-Za-z0-9._:@+-]{1,64}(?:\/[A-Za-z0-9._:@+-]{1,64})?)?$/;

function changedFields(change: RequestOf<"setShard">["change"]) {
  switch (change.case) {
    case "status":
      return { mode: SHARD_MODES.find((mode) => enumValue(ShardStatus, mode) === change.value) };
    case "weight":
      return { weight: change.value };
    case "hint":
      if (!HINT.test(change.value))
        throw invalid("hint", `must be <region>, <region>/<zone> or empty, got ${JSON.stringify(change.value)}`);
      return { hint: change.value };
    case undefined:
      throw invalid("status", "status, weight or hint is required");
  }
}
