/** What a resolver says of the policy while it lacks the one in force: nothing. */
import assert from "node:assert/strict";
import { expect, test } from "vitest";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { NO_POLICY } from "../../src/policy/set/verdict.ts";
import { resolverServices } from "../../src/services/resolving/services.ts";

const CALLER = { cluster: "local", tenant: "" } as never;
const CONTEXT = { caller: CALLER, time: { monoMs: 1, wallMs: 7 }, requestId: "r" };

test("nothing is said of the policy before it is known: that there is none would be a lie", () => {
  let isKnown = false;
  const checkCaughtUp = () => {
    if (!isKnown) throw new WaymarkError("not_ready", "the policy is not known");
  };
  const status = { isEnabled: false, degraded: "", conflict: "" };
  const policies = { policy: NO_POLICY, newestNumber: 0, status, nextEdgeWallMs: () => undefined };
  const identity = { nodeId: "r1", clusterId: "local", region: "here" };
  const rest = { metrics: new Metrics(), ports: {}, reads: {}, identity, upstreams: [], cache: {} };
  const policy = resolverServices({ ...rest, policies, checkCaughtUp } as never).find(({ desc }) => desc === PolicyService);
  const page = policy?.routes?.find(({ path }) => path === "/discovery/policy");
  assert(page !== undefined);
  const asked: (() => unknown)[] = [() => page.answer?.({}, CONTEXT)];
  for (const name of ["policyStatus", "exportPolicy", "explain"]) {
    const handler = policy?.handlers[name];
    assert(handler?.kind === "unary", name);
    asked.push(() => handler.handle({ action: 1, namespace: "svc.a", scope: 0 } as never, CONTEXT));
  }
  for (const ask of asked) expect(ask).toThrow(/the policy is not known/);
  isKnown = true;
  for (const ask of asked) expect(ask).not.toThrow();
});
