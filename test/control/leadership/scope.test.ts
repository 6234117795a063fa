/** The names of scopes. */
import { expect, test } from "vitest";
import { parseScope, scopeOf } from "../../../src/control/leadership/scope.ts";

test.each([
  ["global-control", { kind: "global-control", namespace: "" }],
  ["shard/svc.market/7", { kind: "shard", namespace: "svc.market" }],
  ["custom/orders/cleaner", { kind: "custom", namespace: "orders" }],
  ["custom/a-1.b/A.b_c-9", { kind: "custom", namespace: "a-1.b" }],
  [`custom/${"n".repeat(240)}/${"x".repeat(128)}`, { kind: "custom", namespace: "n".repeat(240) }],
])("%s is a scope", (text, scope) => {
  expect(scopeOf(text)).toEqual(scope);
  expect(parseScope(text)).toEqual(scope);
});

test.each([
  "",
  "global",
  "global-control/",
  "other/orders/cleaner",
  "custom/orders",
  "custom/orders/",
  "custom//cleaner",
  "custom/Orders/cleaner",
  "custom/orders./cleaner",
  "custom/.orders/cleaner",
  "custom/orders/clean er",
  "custom/orders/a/b",
  "custom/orders/ä",
  "custom/orders/cleaner\n",
  `custom/${"n".repeat(241)}/x`,
  `custom/orders/${"x".repeat(129)}`,
])("%j is no scope", (text) => {
  expect(scopeOf(text)).toBeUndefined();
  expect(() => parseScope(text, "scopes[0]")).toThrow(expect.objectContaining({ reason: "invalid_argument" }));
});
