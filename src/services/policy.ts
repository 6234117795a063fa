/** Implements PolicyService: decodes requests, calls the policy store, and encodes responses. */
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { EntryKeySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { ViewerSchema } from "../../gen/waymark/catalog/v1/viewer_pb.js";
import {
  type ApplyPolicyRequest,
  ApplyPolicyResponseSchema,
  ChangeEffect,
  ChangeSchema,
  type PolicyHistoryRequest,
  PolicyHistoryResponseSchema,
  PolicyService,
  PolicyVersionSchema,
  ProblemSchema,
  type RollbackPolicyRequest,
  RollbackPolicyResponseSchema,
  RuleChangeKind,
  RuleChangeSchema,
  Severity,
  type ValidatePolicyRequest,
  ValidatePolicyResponseSchema,
  type WatchPolicyRequest,
  type PolicySet as WireSet,
  type PolicyVersion as WireVersion,
} from "../../gen/waymark/policy/v1/policy_pb.js";
import { decodePageToken, encodePageToken, pageLimit } from "../catalog/query/query.ts";
import { enumName } from "../lib/enum-words.ts";
import { invalid, WaymarkError } from "../lib/errors.ts";
import { fnv64, hashHex } from "../lib/hash64.ts";
import { type Caller, hasRole, isOwnerOf } from "../policy/identity/caller.ts";
import { decodePolicySet, decodeStage, encodePolicySet, encodeStage, memorySizeOf } from "../policy/set/codec.ts";
import type { PlannedChange } from "../policy/set/plan.ts";
import type { PolicySet } from "../policy/set/rules.ts";
import { type PolicyProblem, PolicyProblems } from "../policy/set/validation.ts";
import { type PolicyTask, time } from "../policy/task.ts";
import type { HistoryItem } from "../policy/versions/engine.ts";
import type { ApplyResult, ChangeAuthor, PolicyStore } from "../policy/versions/policy-store.ts";
import type { RolloutStage, VersionFacts } from "../policy/versions/version.ts";
import type { AuditHandlers } from "./audit.ts";
import { decodedSizeOf, PolicyQueue } from "./policy/policy-queue.ts";
import { policyReads } from "./policy/policy-reads.ts";
import { PolicyWatch } from "./policy/policy-watch.ts";
import type { CallContext, HandlersOf, ServiceDefinition, StreamSource } from "./service.ts";
import { demandResolver } from "./service.ts";

export interface PolicyParts {
  readonly policyStore: PolicyStore;
  readonly tasks: { run<T>(task: PolicyTask<T>): Promise<T> };
  /** Returns the region of a cluster. Empty if it is unknown. */
  readonly regionOf: (clusterId: string) => string;
  /**
   * Called before a policy is stored. Throws `fabric_open`, or closes an open fabric so that no other node can replace the policy. The returned
   * function opens the fabric again.
   */
  readonly secure: () => () => void;
  /** Describes a newer version on linked nodes that this node refuses, with the reason. Empty if there is none. */
  readonly notTaken: () => string;
  /** Whether a policy that is applied on this node comes into force in the given cluster, as reported by linked nodes. */
  readonly reaches: (clusterId: string) => boolean;
  /** The handlers of PolicyAudit, AccessAudit and VerifyAudit. */
  readonly audit: AuditHandlers;
  /** The id of this node. */
  readonly servedBy: string;
  /** Whether every connection of the listeners is encrypted. */
  readonly isTls: boolean;
  /** Calls `wake` when another version becomes the newest one, and also several times a second, until the returned function is called. */
  readonly onChange: (wake: () => void) => () => void;
}

/** Largest size of the encoded versions in a page of history, in bytes. A page has at least one version. Clients accept 4 MiB by default. */
const MAX_PAGE_BYTES = 2 * 1024 * 1024;

interface VersionOptions {
  readonly isWithoutRules: boolean;
  readonly isSuperseded: boolean;
}

const HISTORY = hashHex(fnv64("policy history"));

export function policyService(parts: PolicyParts): ServiceDefinition {
  const methods = new PolicyMethods(parts);
  const { policyStore, regionOf, notTaken } = parts;
  const reads = policyReads({ engine: policyStore.engine, regionOf, notTaken, checkKnown: () => {} });
  return {
    desc: PolicyService,
    handlers: {
      ...parts.audit,
      ...reads.handlers,
      validatePolicy: {
        kind: "unary",
        handle: (request: ValidatePolicyRequest, context) => methods.validate(request, context),
        refuseEarly: (requestBytes) => methods.queue.refuseEarly(requestBytes),
      },
      applyPolicy: {
        kind: "unary",
        handle: (request: ApplyPolicyRequest, context) => methods.apply(request, context),
        refuseEarly: (requestBytes) => methods.queue.refuseEarly(requestBytes),
      },
      rollbackPolicy: { kind: "unary", handle: (request: RollbackPolicyRequest, context) => methods.rollback(request, context) },
      policyHistory: { kind: "unary", handle: (request: PolicyHistoryRequest) => methods.history(request) },
      watchPolicy: { kind: "server_streaming", open: (request: WatchPolicyRequest, context) => methods.watch(request, context) },
    } satisfies HandlersOf<typeof PolicyService>,
    routes: reads.routes,
  };
}

class PolicyMethods {
  readonly queue = new PolicyQueue();
  readonly #parts: PolicyParts;

  constructor(parts: PolicyParts) {
    this.#parts = parts;
  }

  async validate(request: ValidatePolicyRequest, context: CallContext) {
    const wire = givenSet(request.policy);
    const { policyStore, tasks } = this.#parts;
    function* validate(): PolicyTask<readonly PolicyProblem[]> {
      yield* inTime(context);
      const problems = new PolicyProblems<PolicyProblem>();
      return yield* policyStore.validate(decodePolicySet(wire, problems), problems);
    }
    const problems = await this.queue.run(context, memorySizeOf(wire), () => tasks.run(validate()));
    return create(ValidatePolicyResponseSchema, { problems: problems.map(wireProblem) });
  }

  async apply(request: ApplyPolicyRequest, context: CallContext) {
    const { reason, changeTicket, dryRun: isDryRun } = request;
    const expectedNumber = Number(request.expectedNumber);
    const terms = { expectedNumber, stage: decodeStage(request.stage), reason, changeTicket };
    const wire = givenSet(request.policy);
    const actor = actorOf(context.caller);
    const { policyStore, tasks } = this.#parts;
    // The owner check comes first, so that a caller that does not own the rules does not use the queue.
    const patterns = new Set(wire.rules.map(({ namespace }) => namespace));
    policyStore.checkOutline(actor, { defaultAllow: wire.defaultAllow, patterns }, expectedNumber);
    const unreached = this.#unreached(terms.stage);
    function* apply(): PolicyTask<ApplyResult> {
      yield* inTime(context);
      const problems = new PolicyProblems<PolicyProblem>();
      const set = decodePolicySet(wire, problems);
      for (const problem of unreached) problems.add(problem);
      return yield* policyStore.apply(actor, { set, problems, terms, isDryRun });
    }
    const run = () => tasks.run(apply());
    const applied = await this.queue.run(context, memorySizeOf(wire), () => (isDryRun ? run() : this.#secured(run)));
    return create(ApplyPolicyResponseSchema, resultOf(applied));
  }

  async rollback(request: RollbackPolicyRequest, context: CallContext) {
    const { reason, changeTicket } = request;
    const expectedNumber = Number(request.expectedNumber);
    const toNumber = Number(request.toNumber);
    const { policyStore, tasks } = this.#parts;
    const actor = actorOf(context.caller);
    const command = { toNumber, terms: { expectedNumber, reason, changeTicket }, isDryRun: request.dryRun };
    function* rollback(): PolicyTask<ApplyResult> {
      yield* inTime(context);
      return yield* policyStore.rollback(actor, command);
    }
    const run = () => tasks.run(rollback());
    const task = () => (request.dryRun ? run() : this.#secured(run));
    const setBytes = this.#rollbackBytes(toNumber);
    const applied = await (setBytes === undefined ? task() : this.queue.run(context, setBytes, task));
    return create(RollbackPolicyResponseSchema, resultOf(applied));
  }

  /**
   * Returns the size of the stored set in memory. Undefined if there is no such version. The rollback is then not queued, and reports the missing
   * version after its other checks.
   */
  #rollbackBytes(toNumber: number): number | undefined {
    try {
      return decodedSizeOf(this.#parts.policyStore.engine.rollbackTarget(toNumber).sizeBytes);
    } catch (error) {
      if (error instanceof WaymarkError) return undefined;
      throw error;
    }
  }

  /** Warns about clusters in a stage that do not accept this node's policy, because the policy would never come into force there. */
  #unreached(stage: RolloutStage | undefined): readonly PolicyProblem[] {
    if (stage?.by !== "clusters") return [];
    return stage.clusterIds.flatMap((clusterId, index) => {
      if (this.#parts.reaches(clusterId)) return [];
      const message = `cluster ${JSON.stringify(clusterId)} is not known to accept the policy of this cluster: check policy.accept_from on its nodes`;
      return [{ path: `stage.clusters.cluster_ids[${index}]`, severity: "warning", message }];
    });
  }

  async #secured<T>(store: () => Promise<T>): Promise<T> {
    const release = this.#parts.secure();
    try {
      return await store();
    } catch (error) {
      release();
      throw error;
    }
  }

  watch({ known }: WatchPolicyRequest, { caller }: CallContext): StreamSource {
    const { policyStore, tasks, servedBy, isTls, onChange } = this.#parts;
    const { engine } = policyStore;
    demandResolver(caller, isTls);
    return new PolicyWatch({
      history: () => engine.history(),
      epoch: () => engine.policy.epoch,
      encodedNow: (place) => policyStore.encodedNow(place),
      // If the store is unreachable now, it may be reachable at the next attempt.
      encoded: (place) => tasks.run(policyStore.encodedAt(place)).catch(() => undefined),
      known: known.map(({ number, hlc, nodeId, checksum }) => ({ number: Number(number), hlc: Number(hlc), nodeId, checksum })),
      servedBy,
      via: [],
      onChange,
    });
  }

  async history(request: PolicyHistoryRequest) {
    const { policyStore } = this.#parts;
    const limit = pageLimit(request.limit);
    const before = decodePageToken(request.pageToken, HISTORY);
    const wanted = after(policyStore.engine.history(), before);
    const versions: WireVersion[] = [];
    let bytes = 0;
    for (const { number, facts, fault, isSuperseded } of wanted.slice(0, limit)) {
      const options = { isWithoutRules: request.withoutRules, isSuperseded };
      const version = facts === undefined ? unreadable(number, fault) : await this.#version(facts, options);
      bytes += toBinary(PolicyVersionSchema, version).length;
      if (bytes > MAX_PAGE_BYTES && versions.length > 0) break;
      versions.push(version);
    }
    const last = wanted[versions.length - 1];
    const nextPageToken = last === undefined || versions.length === wanted.length ? "" : encodePageToken(placeOf(last), HISTORY);
    return create(PolicyHistoryResponseSchema, { versions, nextPageToken });
  }

  async #version(facts: VersionFacts, { isWithoutRules, isSuperseded }: VersionOptions): Promise<WireVersion> {
    const { policyStore, tasks } = this.#parts;
    const { number, version, defaultAllow, appliedWallMs, principal, reason, changeTicket, checksum, changes, changesLeftOut } = facts;
    let set: PolicySet = { version, defaultAllow, rules: [] };
    let fault = "";
    try {
      if (!isWithoutRules) ({ set } = await tasks.run(isSuperseded ? policyStore.loadSuperseded(facts) : policyStore.load(number)));
    } catch (error) {
      if (!(error instanceof WaymarkError) || error.reason !== "not_found") throw error;
      fault = error.message;
    }
    const stage = encodeStage(facts.stage);
    return create(PolicyVersionSchema, {
      policy: encodePolicySet(set, number),
      appliedAt: timestampFromMs(appliedWallMs),
      principal,
      reason,
      changeTicket,
      checksum,
      ...(stage !== undefined && { stage }),
      changes: changes.map(({ pattern, change, fields }) =>
        create(RuleChangeSchema, {
          namespace: pattern,
          kind: RuleChangeKind[enumName(change)],
          fields: fields.map(({ field, removed, added }) => ({ field, removed: [...removed], added: [...added] })),
        }),
      ),
      changesLeftOut: BigInt(changesLeftOut),
      unreadable: fault,
      nodeId: facts.nodeId,
      superseded: isSuperseded,
    });
  }
}

/** Returns the versions in the history after a position. The version at that position may no longer exist. */
function after(history: readonly HistoryItem[], place: string): readonly HistoryItem[] {
  if (place === "") return history;
  const index = history.findIndex((item) => placeOf(item) === place);
  return index < 0 ? history.filter(({ number }) => number < Number.parseInt(place, 10)) : history.slice(index + 1);
}

function placeOf({ number, facts, isSuperseded }: HistoryItem): string {
  return isSuperseded ? `${number}-${facts?.checksum.slice(0, 16)}` : `${number}`;
}

function givenSet(wire: WireSet | undefined): WireSet {
  if (wire === undefined) throw invalid("policy", "is required");
  return wire;
}

/**
 * Starts the work for a call in a separate turn of the event loop, because decoding the message may already have used a whole turn. Throws
 * `deadline_exceeded` if the deadline passed while the call was queued.
 */
function* inTime({ deadlineMonoMs }: CallContext): PolicyTask<void> {
  yield;
  const { monoMs } = yield* time();
  if (deadlineMonoMs !== undefined && monoMs >= deadlineMonoMs)
    throw new WaymarkError("deadline_exceeded", "deadline exceeded while the call was queued behind other policy calls");
}

function actorOf(caller: Caller): ChangeAuthor {
  const { principal, tenant, address, tokenId } = caller;
  const owns = hasRole(caller, "mesh.admin") ? undefined : (namespace: string) => isOwnerOf(caller, namespace);
  return { principal, tenant, address, tokenId, owns, mayRead: hasRole(caller, "mesh.read") };
}

function unreadable(number: number, fault: string): WireVersion {
  return create(PolicyVersionSchema, { policy: { number: BigInt(number) }, unreadable: fault });
}

function resultOf({ number, plan, warnings }: ApplyResult) {
  return {
    number: BigInt(number),
    changes: plan.changes.map(wireChange),
    problems: warnings.map(wireProblem),
    changesLeftOut: BigInt(plan.leftOut),
  };
}

function wireProblem({ path, severity, message }: PolicyProblem) {
  return create(ProblemSchema, { path, severity: Severity[enumName(severity)], message });
}

function wireChange({ namespace, effect, entries, examples, viewers }: PlannedChange) {
  return create(ChangeSchema, {
    namespace,
    effect: ChangeEffect[enumName(effect)],
    entries: BigInt(entries),
    examples: examples.map((key) => create(EntryKeySchema, key)),
    viewers: viewers.map(({ clusterId, tenant }) => create(ViewerSchema, { clusterId, tenantId: tenant })),
  });
}
