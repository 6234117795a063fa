import { expect, test } from "vitest";
import { anonymousCaller } from "../../src/policy/caller.ts";

test("a caller without a credential owns nothing, has no role, and sees with the serving node's eyes", () => {
  expect(anonymousCaller("eu-1", "192.0.2.7")).toEqual({
    principal: "",
    tenant: "",
    cluster: "eu-1",
    roles: [],
    isAuthenticated: false,
    address: "192.0.2.7",
  });
});
