import { expect, test } from "vitest";
import { GLOBAL_SCOPE } from "../../../src/control/leadership/scope.ts";
import { LEASE_MS, LeaderLab } from "../../fakes/leader-lab.ts";

test("the last sign of a leader that died is the last renewal that its successor saw", () => {
  const lab = new LeaderLab();
  const first = lab.node("a", [GLOBAL_SCOPE]);
  const second = lab.node("b", [GLOBAL_SCOPE]);
  lab.advance(2 * LEASE_MS);
  const renewedMs = lab.nowMs;
  first.isCrashed = true;
  lab.advance(2 * LEASE_MS);
  expect(lab.leader(GLOBAL_SCOPE).nodeId).toBe("b");
  expect(second.machine.lastSignMs(GLOBAL_SCOPE)).toBeLessThanOrEqual(renewedMs);
  expect(second.machine.lastSignMs(GLOBAL_SCOPE)).toBeGreaterThan(renewedMs - LEASE_MS / 2);
  lab.advance(LEASE_MS);
  expect(second.machine.lastSignMs(GLOBAL_SCOPE)).toBeLessThanOrEqual(renewedMs);
});

test("the last sign of a leader that resigned is its resignation", () => {
  const lab = new LeaderLab();
  const first = lab.node("a", [GLOBAL_SCOPE]);
  const second = lab.node("b", [GLOBAL_SCOPE]);
  lab.advance(LEASE_MS);
  first.input({ kind: "stop" });
  expect(lab.leader(GLOBAL_SCOPE).nodeId).toBe("b");
  expect(second.machine.lastSignMs(GLOBAL_SCOPE)).toBe(lab.nowMs);
  expect(second.machine.lastSignMs("custom/orders/other")).toBeUndefined();
});
