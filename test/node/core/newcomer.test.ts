/** Which nodes wait for the policy of others. */
import { expect, test } from "vitest";
import { awaitsPolicy, mayBeOthers } from "../../../src/node/core/joining.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { at } from "../../fakes/registry.ts";

const JOINING = { ...SETTINGS, fabric: { ...SETTINGS.fabric, seeds: ["b:1"] } };
const fabricSaying = (reason: "alone" | "joined") => ({ readiness: { read: () => ({ reason }) } }) as never;

test("only a node that joins others for the first time shows nothing without a policy", () => {
  expect([awaitsPolicy(JOINING, false), awaitsPolicy(JOINING, true), awaitsPolicy(SETTINGS, false)]).toEqual([true, false, false]);
  expect(awaitsPolicy({ fabric: { ...JOINING.fabric, enabled: false } }, false)).toBe(false);
});

test("others may be there until a node is ready, and while it serves alone although it is to join them", () => {
  const alone = { isReady: true, fabric: fabricSaying("alone") };
  expect(mayBeOthers(SETTINGS, { ...alone, isReady: false }, at(0))).toBe(true);
  expect(mayBeOthers(JOINING, alone, at(0))).toBe(true);
  expect(mayBeOthers(SETTINGS, alone, at(0))).toBe(false);
  expect(mayBeOthers(JOINING, { isReady: true, fabric: fabricSaying("joined") }, at(0))).toBe(false);
  expect(mayBeOthers(JOINING, { isReady: true, fabric: undefined }, at(0))).toBe(false);
});
