/** One link as the node keeps it. */
import { expect, test } from "vitest";
import { duplicateNode, isQuiet, newRow } from "../../../src/fabric/links/link-state.ts";
import { GOODBYES } from "../../../src/fabric/wire/messages.ts";
import { greetingOf } from "../../fakes/fabric-world.ts";

test("a link that somebody opened waits for a hello until its time is over", () => {
  expect(newRow(3, { monoMs: 100, wallMs: 0 }, 5000)).toMatchObject({
    link: 3,
    isIncoming: true,
    state: "greeting",
    nodeId: "",
    deadlineMonoMs: 5100,
  });
});

test("goodbyes of ordinary life are not worth an operator's time", () => {
  expect(GOODBYES.filter(isQuiet)).toEqual(["leave", "restart", "duplicate_link", "too_many_links", "not_needed"]);
});

test("a second node of one id is named", () => {
  const [second, fourth] = [greetingOf("b", { generation: 3 }), greetingOf("b", { generation: 4, address: "10.0.0.4:1" })];
  expect(duplicateNode(second, fourth)).toEqual({
    reason: "duplicate_node",
    detail: "node b already has a link with a newer generation than 3",
  });
  const alive = "two nodes have the id b; the other node is running at 10.0.0.4:1";
  expect(duplicateNode(greetingOf("b", { generation: 5 }), fourth)).toEqual({ reason: "duplicate_node", detail: alive });
});
