/**
 * Handlers that read the policy in force: its status, its rules and its verdicts. Nodes and resolvers share these handlers, which do not need a
 * store.
 */
import { create, type JsonValue, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope as WireScope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Act } from "../../../gen/waymark/options/v1/options_pb.js";
import {
  type ExplainRequest,
  ExplainResponseSchema,
  ExportPolicyResponseSchema,
  type PolicyStatusResponse,
  PolicyStatusResponseSchema,
} from "../../../gen/waymark/policy/v1/policy_pb.js";
import { PROTOCOL_BOUNDS, parseNamespace } from "../../catalog/entry/names.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import { enumName } from "../../lib/enum-words.ts";
import { invalid } from "../../lib/errors.ts";
import { timeMs } from "../../lib/protowire.ts";
import { encodePolicySet, encodeStage } from "../../policy/set/codec.ts";
import { ACTIONS, explain, type PolicyAction } from "../../policy/set/verdict.ts";
import type { PolicyEngine } from "../../policy/versions/engine.ts";
import { scopeOf } from "../discovery/filter.ts";
import type { CallContext, HttpRoute, MethodHandler } from "../service.ts";

export interface PolicyReadsParts {
  readonly engine: PolicyEngine;
  /** Returns the region of a cluster. Empty if it is unknown. */
  readonly regionOf: (clusterId: string) => string;
  /** Describes a newer version that is not in force on this server, with the reason. Empty if there is none. */
  readonly notTaken: () => string;
  /** Throws `not_ready` while the policy in force is unknown. */
  readonly checkKnown: () => void;
}

/** Returns the handlers of PolicyStatus, ExportPolicy and Explain, and the route `GET /discovery/policy`. */
export function policyReads(parts: PolicyReadsParts): {
  readonly handlers: Readonly<Record<"explain" | "exportPolicy" | "policyStatus", MethodHandler>>;
  readonly routes: readonly HttpRoute[];
} {
  const { checkKnown } = parts;
  return {
    handlers: {
      policyStatus: {
        kind: "unary",
        handle: (_request, context) => {
          checkKnown();
          return statusOf(parts, context);
        },
      },
      exportPolicy: {
        kind: "unary",
        handle: () => {
          checkKnown();
          return exported(parts);
        },
      },
      explain: {
        kind: "unary",
        handle: (request: ExplainRequest, context) => {
          checkKnown();
          return explained(parts, request, context);
        },
      },
    },
    routes: [
      {
        path: "/discovery/policy",
        parameters: ["namespace"],
        rpc: "policyStatus",
        // If the request names a namespace, the answer includes the caller's view of it, as in `Explain`. Owners of the namespace may make such a
        // request too.
        rpcWith: { namespace: "explain" },
        answer: ({ namespace }, context) => {
          checkKnown();
          return { kind: "page", page: statusPage(parts, namespace, context) };
        },
      },
    ],
  };
}

function exported({ engine: { inForce } }: PolicyReadsParts) {
  return create(ExportPolicyResponseSchema, inForce === undefined ? {} : { policy: encodePolicySet(inForce.set, inForce.number) });
}

/** Returns the status as JSON. If a namespace is given, the status includes the verdict on the caller's view of that namespace. */
function statusPage(parts: PolicyReadsParts, namespace: string | undefined, context: CallContext): JsonValue {
  const status = toJson(PolicyStatusResponseSchema, statusOf(parts, context), { alwaysEmitImplicit: true });
  if (namespace === undefined || typeof status !== "object" || status === null || Array.isArray(status)) return status;
  const { cluster: clusterId, tenant } = context.caller;
  const { policy } = parts.engine;
  const { allowed, reason, rule } = policy.viewer(parseNamespace(namespace, "namespace", PROTOCOL_BOUNDS), { clusterId, tenant });
  return { ...status, view: { namespace, allowed, reason, rule } };
}

function explained({ engine, regionOf }: PolicyReadsParts, request: ExplainRequest, { caller, time }: CallContext) {
  const clusterId = request.viewer?.clusterId || caller.cluster;
  const verdict = explain(engine.policy, {
    action: actionOf(request.action),
    namespace: request.namespace,
    clusterId,
    tenant: request.viewer === undefined ? caller.tenant : request.viewer.tenantId,
    region: regionOf(clusterId),
    scope: request.scope === WireScope.UNSPECIFIED ? SCOPE.GLOBAL : scopeOf(request.scope),
    wallMs: request.at === undefined ? time.wallMs : timeMs(request.at),
  });
  return create(ExplainResponseSchema, {
    allowed: verdict.allowed,
    reason: verdict.reason,
    rule: verdict.rule,
    ...(verdict.untilWallMs !== undefined && { until: timestampFromMs(verdict.untilWallMs) }),
  });
}

function statusOf({ engine, notTaken }: PolicyReadsParts, { time: { wallMs } }: CallContext): PolicyStatusResponse {
  const { isEnabled, inForce, newest, degraded, conflict } = engine.status;
  const edge = engine.nextEdgeWallMs(wallMs);
  const stage = encodeStage(newest?.stage);
  return create(PolicyStatusResponseSchema, {
    enabled: isEnabled,
    number: BigInt(inForce?.number ?? 0),
    version: inForce?.version ?? "",
    ruleCount: inForce?.ruleCount ?? 0,
    ...(inForce !== undefined && { appliedAt: timestampFromMs(inForce.appliedWallMs) }),
    checksum: inForce?.checksum ?? "",
    newestNumber: BigInt(engine.newestNumber),
    ...(stage !== undefined && { newestStage: stage }),
    degraded,
    conflict,
    notTaken: notTaken(),
    ...(edge !== undefined && { nextEdgeAt: timestampFromMs(edge) }),
  });
}

function actionOf(act: Act): PolicyAction {
  const action = ACTIONS.find((word) => Act[enumName(word)] === act);
  if (action === undefined) throw invalid("action", `unknown action ${act}: must be one of ${ACTIONS.join(", ")}`);
  return action;
}
