import { expect, test } from "vitest";
import { viewerVerdict } from "../../src/policy/verdict.ts";

test("with no policy ever configured all is allowed, and the reason says so", () => {
  expect(viewerVerdict()).toEqual({ allowed: true, reason: "policy_disabled" });
});
