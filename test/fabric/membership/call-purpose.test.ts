import { expect, test } from "vitest";
import { askedNode } from "../../../src/fabric/membership/call-purpose.ts";

test("an answer counts as that of the node that was asked only where one node was asked for itself", () => {
  expect(askedNode({ kind: "gossip", nodeId: "a" })).toBe("a");
  expect(askedNode({ kind: "check", nodeId: "b" })).toBe("b");
  expect(askedNode({ kind: "pushPull", address: "10.0.0.1:17421", isJoin: true, step: "whole" })).toBeUndefined();
});
