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
import type { Caller } from "../../policy/identity/caller.ts";
import type { AnswerSink, CallContext, MethodHandler, RequestListener } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import { ownedMessage } from "./shard-messages.ts";
import { knownMap, type ShardSource } from "./source.ts";

/** Lowest weight of an owner. */
const MIN_WEIGHT = 0.001;

/** The entry of an instance in the catalog. */
export interface OwnerEntry extends Pick<OwnerFacts, "health" | "region" | "target" | "weight" | "zone"> {
  /** The principal that has registered the entry. */
  readonly principal: string;
}

export interface AttachParts {
  readonly source: ShardSource;
  readonly leaseMs: number;
  /** Throws if the caller cannot register in the namespace. `field` is the field of the request that contains it. */
  readonly checkNamespace: (caller: Caller, namespace: string, field: string) => void;
  /** Returns the entry of an instance of a service. Undefined if this node does not know the instance. */
  readonly entryOf: (namespace: string, service: string, instance: string) => OwnerEntry | undefined;
}

export function attachHandler(parts: AttachParts): MethodHandler {
  const limit = new StreamLimit("attached owners", MAX_OWNERS);
  const open = (answers: AnswerSink<ShardServiceAttachResponse>, { caller }: CallContext) =>
    new AttachedOwner({ ...parts, limit }, answers, caller);
  const answerOne = () => {
    throw new WaymarkError(
      "unimplemented",
      "a node with read workers accepts no owners of shards: set node.workers = 0, or use another node",
    );
  };
  return { kind: "bidi_streaming", open, answerOne };
}

class AttachedOwner implements RequestListener<ShardServiceAttachRequest> {
  readonly #parts: AttachParts & { readonly limit: StreamLimit };
  readonly #answers: AnswerSink<ShardServiceAttachResponse>;
  readonly #caller: Caller;
  readonly #owner: OwnerSink = (news) => this.#answer(news);
  #first: ShardServiceAttachRequest | undefined;
  #sentMs = 0n;
  /** Whether the owner has stopped acting for all its shards. */
  #hasStopped = false;
  /** Stops counting the owner. Set by the first permitted message. */
  #stopCounting: (() => void) | undefined;
  /** The last entry that this node knew. An owner does not end because a node has lost sight of its entry. */
  #entry: OwnerEntry | undefined;

  constructor(parts: AttachParts & { readonly limit: StreamLimit }, answers: AnswerSink<ShardServiceAttachResponse>, caller: Caller) {
    this.#parts = parts;
    this.#answers = answers;
    this.#caller = caller;
  }

  message(request: ShardServiceAttachRequest): void {
    if (this.#hasStopped) return;
    const { source, checkNamespace } = this.#parts;
    const first = (this.#first ??= checkedFirst(request));
    for (const field of ["namespace", "instance"] as const)
      if (request[field] !== "" && request[field] !== first[field])
        throw invalid(field, `must be ${first[field]}, as in the first message`);
    const { namespace, instance, slots, weight } = first;
    // The policy can have changed since the last message.
    checkNamespace(this.#caller, namespace, "namespace");
    const entry = this.#entryOf(namespace, knownMap(source, namespace).set.value.service, instance);
    this.#stopCounting ??= this.#count(namespace, instance);
    this.#sentMs = request.sentMs;
    if (request.detach) {
      this.#hasStopped = true;
      source.input({ kind: "ownerEnded", owner: this.#owner, hasStopped: true });
      this.#answers.end();
      return;
    }
    const { target, zone, region, health } = entry;
    const { prepared, dropped, leaving: isLeaving } = request;
    const facts = { target, zone, region, health, weight: weight || entry.weight, slots, isLeaving };
    const reports = request.loads.map(reportOf);
    source.input({ kind: "owner", owner: this.#owner, namespace, instance, facts, prepared, dropped, reports });
  }

  halfClosed(): void {
    this.#answers.end();
  }

  /** The owner can act until its last validity is over, while it attaches to another node. */
  leave(error: WaymarkError): void {
    this.#answers.fail(error);
  }

  close(): void {
    this.#stopCounting?.();
    if (this.#stopCounting === undefined || this.#hasStopped) return;
    this.#parts.source.input({ kind: "ownerEnded", owner: this.#owner, hasStopped: false });
  }

  #count(namespace: string, instance: string): () => void {
    const { source, limit } = this.#parts;
    const owners = source.maps.owners(namespace);
    if (owners.size >= MAX_OWNERS && !owners.has(instance))
      throw new WaymarkError("quota_exceeded", `the shards of ${namespace} have ${owners.size} owners, and the maximum is ${MAX_OWNERS}`);
    return limit.open(this.#caller);
  }

  #entryOf(namespace: string, service: string, instance: string): OwnerEntry {
    const entry = this.#parts.entryOf(namespace, service, instance) ?? this.#entry;
    if (entry === undefined)
      throw new WaymarkError(
        "not_found",
        `this node knows no instance ${instance} of ${namespace}/${service}: register it first; if it was registered on another node, retry after a moment`,
        { retryMs: 500 },
      );
    if (entry.principal !== this.#caller.principal)
      throw invalid("instance", `${instance} of ${namespace}/${service} was registered by another principal`);
    this.#entry = entry;
    return entry;
  }

  #answer({ validForMs, shards, waitsFor }: OwnerNews): void {
    const { source, leaseMs } = this.#parts;
    const message = create(ShardServiceAttachResponseSchema, {
      sentMs: this.#sentMs,
      validFor: durationFromMs(Math.floor(validForMs)),
      heartbeatInterval: durationFromMs(Math.floor(leaseMs / 3)),
      shards: shards.map(ownedMessage),
      waitsFor,
      serveOnStoreLoss: source.maps.map(this.#first?.namespace ?? "")?.set.value.onStoreLoss === "serve",
    });
    if (this.#answers.send(message)) return;
    // The heartbeats of an owner that does not read its answers wait, so that the answers do not fill the memory.
    this.#answers.pause();
    this.#answers.onceRoomy(() => this.#answers.resume());
  }
}

function reportOf({ id, depth, latency, errorRatio, rate }: ShardLoad): ShardReport {
  return { id, depth: Number(depth), latencyMs: latency === undefined ? 0 : durationMs(latency), errorRatio, rate };
}

function checkedFirst(request: ShardServiceAttachRequest): ShardServiceAttachRequest {
  for (const field of ["namespace", "instance"] as const)
    if (request[field] === "") throw invalid(field, "is required in the first message");
  if (request.weight !== 0 && request.weight < MIN_WEIGHT)
    throw invalid("weight", `must be 0, or ${MIN_WEIGHT} to 1000, got ${request.weight}`);
  return request;
}
