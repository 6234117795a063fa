/** Implements ShardService.Attach: an instance that owns shards through this node. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type ShardLoad,
  type ShardServiceAttachRequest,
  type ShardServiceAttachResponse,
  ShardServiceAttachResponseSchema,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import type { OwnerFacts, OwnerNews, OwnerSink, ShardReport } from "../../control/shards/io-types.ts";
import { MAX_OWNERS } from "../../control/shards/records.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { later } from "../../lib/stall-aware-time.io.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { type HeartbeatCall, type HeartbeatGate, type HeartbeatListener, heartbeatHandler } from "../heartbeat-stream.ts";
import type { MethodHandler } from "../service.ts";
import { ownedMessage } from "./shard-messages.ts";
import { knownMap, type ShardSource } from "./source.ts";

/** Number of leases after which an owner leaves a drained node with the shards that no other owner accepts. */
const LEAVE_LEASES = 2;
/** Lowest weight of an owner. */
const MIN_WEIGHT = 0.001;

/** The entry of an instance in the catalog. */
export type OwnerEntry = Omit<OwnerFacts, "isLeaving" | "slots">;

export interface AttachParts {
  readonly gate: HeartbeatGate;
  readonly source: ShardSource;
  readonly leaseMs: number;
  /** Throws if the caller cannot register in the namespace. `field` is the field of the request that contains it. */
  readonly checkNamespace: (caller: Caller, namespace: string, field: string) => void;
  /** Returns the entry of an instance of a service. Undefined if this node does not know the instance. */
  readonly entryOf: (namespace: string, service: string, instance: string) => OwnerEntry | undefined;
}

export function attachHandler(parts: AttachParts): MethodHandler {
  return heartbeatHandler({ what: "attached owners", max: MAX_OWNERS, gate: parts.gate }, (call) => new AttachedOwner(parts, call));
}

class AttachedOwner implements HeartbeatListener<ShardServiceAttachRequest> {
  readonly #call: HeartbeatCall<ShardServiceAttachResponse>;
  readonly #parts: AttachParts;
  readonly #owner: OwnerSink = (news) => this.#report(news);
  #first: ShardServiceAttachRequest | undefined;
  /** The last entry that this node knew, or the facts in the record of the owner. An owner does not end because a node has lost sight of its entry. */
  #entry: OwnerEntry | undefined;
  #sentMs = 0n;
  /** Whether the owner has stopped acting for all its shards. */
  #hasStopped = false;
  /** Set while the owner gives up its shards, because the node is drained. `cancel` ends the wait for it. */
  #leave: { readonly error: WaymarkError; readonly cancel: () => void } | undefined;

  constructor(parts: AttachParts, call: HeartbeatCall<ShardServiceAttachResponse>) {
    this.#call = call;
    this.#parts = parts;
  }

  message(request: ShardServiceAttachRequest): void {
    if (this.#hasStopped) return;
    const { source, checkNamespace } = this.#parts;
    const { namespace, instance, slots, weight } = (this.#first ??= request);
    for (const [field, value] of [
      ["namespace", namespace],
      ["instance", instance],
    ] as const) {
      if (value === "") throw invalid(field, "is required in the first message");
      if (request[field] !== "" && request[field] !== value) throw invalid(field, `must be ${value}, as in the first message`);
    }
    if (weight !== 0 && weight < MIN_WEIGHT) throw invalid("weight", `must be 0, or ${MIN_WEIGHT} to 1000, got ${weight}`);
    // The policy can have changed since the last message.
    checkNamespace(this.#call.caller, namespace, "namespace");
    const entry = this.#entryOf(namespace, instance);
    this.#call.permitted();
    this.#sentMs = request.sentMs;
    if (request.detach) {
      this.#hasStopped = true;
      this.#end(true);
      this.#call.end();
      return;
    }
    const { target, zone, region, health, principal } = entry;
    const { prepared, dropped } = request;
    const isLeaving = request.leaving || this.#leave !== undefined;
    const facts = { target, zone, region, health, principal, weight: weight || entry.weight, slots, isLeaving };
    const reports = request.loads.map(reportOf);
    source.input({ kind: "owner", owner: this.#owner, namespace, instance, facts, prepared, dropped, reports });
  }

  /**
   * The shards of the owner move to other owners, and then the stream ends. An owner whose shards no other owner accepts leaves with them. It can act for
   * them until its last validity is over, and then gets them again through another node.
   */
  standDown(error: WaymarkError): void {
    const { leaseMs } = this.#parts;
    this.#leave ??= { error, cancel: later(() => this.#call.fail(error), LEAVE_LEASES * leaseMs) };
  }

  /** The owner can act until its last validity is over, while it attaches to another node. */
  over(): void {
    this.#leave?.cancel();
    if (!this.#hasStopped) this.#end(false);
  }

  #end(hasStopped: boolean): void {
    this.#parts.source.input({ kind: "ownerEnded", owner: this.#owner, hasStopped });
  }

  #entryOf(namespace: string, instance: string): OwnerEntry {
    const { source, entryOf } = this.#parts;
    const { service } = knownMap(source, namespace).set.value;
    const owners = source.maps.owners(namespace);
    const entry = entryOf(namespace, service, instance) ?? this.#entry ?? owners.get(instance)?.value;
    if (entry === undefined)
      throw new WaymarkError(
        "not_found",
        `this node knows no instance ${instance} of ${namespace}/${service}: register it first; if it was registered on another node, retry after a moment`,
        { retryMs: 500 },
      );
    if (entry.principal !== this.#call.caller.principal)
      throw invalid("instance", `${instance} of ${namespace}/${service} was registered by another principal`);
    if (this.#entry === undefined && owners.size >= MAX_OWNERS && !owners.has(instance))
      throw new WaymarkError("quota_exceeded", `the shards of ${namespace} have ${owners.size} owners, and the maximum is ${MAX_OWNERS}`);
    this.#entry = entry;
    return entry;
  }

  #report({ validForMs, shards, waitsFor }: OwnerNews): void {
    const { source, leaseMs } = this.#parts;
    const news = {
      sentMs: this.#sentMs,
      validFor: durationFromMs(Math.floor(validForMs)),
      heartbeatInterval: durationFromMs(Math.floor(leaseMs / 3)),
      shards: shards.map(ownedMessage),
      waitsFor,
      serveOnStoreLoss: source.maps.map(this.#first?.namespace ?? "")?.set.value.onStoreLoss === "serve",
    };
    this.#call.answer(create(ShardServiceAttachResponseSchema, news));
    const { namespace, instance } = this.#first ?? { namespace: "", instance: "" };
    if (this.#leave !== undefined && source.maps.map(namespace)?.rowsOf(instance).length === 0) this.#call.fail(this.#leave.error);
  }
}

function reportOf({ id, depth, latency, errorRatio, rate }: ShardLoad): ShardReport {
  return { id, depth: Number(depth), latencyMs: latency === undefined ? 0 : durationMs(latency), errorRatio, rate };
}
