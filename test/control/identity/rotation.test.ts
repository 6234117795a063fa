/** The rules of a rotation: which step waits for which nodes and programs. */
import { describe, expect, test } from "vitest";
import { judgeDrop, judgeIssue, judgePublish, type RotationMember } from "../../../src/control/identity/rotation.ts";

const [OLD, NEW] = ["0000000000000001", "0000000000000002"];

function member(nodeId: string, root: string, ...roots: readonly string[]): RotationMember {
  return { nodeId, security: { root, roots } };
}

function refusalOf(act: () => void): string {
  try {
    act();
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

test("at most four roots are published", () => {
  expect(refusalOf(() => judgePublish(3))).toBe("");
  expect(refusalOf(() => judgePublish(4))).toBe('quota_exceeded: 4 roots are published; drop one with "waymark ca drop"');
});

describe("certificates under a root", () => {
  const published = [OLD, NEW];
  const done = member("eu-1", OLD, OLD, NEW);
  const refused = `the root ${NEW} of this issuer is not accepted yet by`;
  const cases = [
    { what: "all accept it", members: [done, member("eu-2", OLD, NEW, OLD)], want: "" },
    { what: "one does not", members: [done, member("eu-2", OLD, OLD)], want: `not_ready: ${refused} node eu-2` },
    { what: "one is silent", members: [done, { nodeId: "eu-3" }], want: `not_ready: ${refused} node eu-3` },
    { what: "it is not published", members: [done], roots: [OLD, "x"], want: `not_ready: ${refused} node eu-1` },
    { what: "the issuer has just started", members: undefined, want: "not_ready: this node is not in sync with its cluster" },
  ];
  test.each(cases)("$what", ({ members, roots = published, want }) => {
    expect(refusalOf(() => judgeIssue(NEW, { published: roots, members }))).toBe(want);
  });

  test("the only root needs no agreement", () => {
    for (const roots of [[], [NEW]]) expect(refusalOf(() => judgeIssue(NEW, { published: roots, members: undefined }))).toBe("");
  });
});

describe("a root is dropped", () => {
  const all = [OLD, NEW];
  const moved = member("eu-1", NEW, OLD, NEW);
  const inUse = (by: string) => `not_ready: the root ${OLD} is in use by ${by}`;
  const cases = [
    { what: "after all have moved", members: [moved], recorded: [], want: "" },
    { what: "a node uses it", members: [moved, member("eu-2", OLD, OLD, NEW)], recorded: ["node eu-2"], want: inUse("node eu-2") },
    { what: "a node is silent", members: [moved, { nodeId: "eu-3" }], recorded: [], want: inUse("node eu-3") },
    { what: "a node has an unknown root", members: [member("eu-4", "", NEW)], recorded: [], want: inUse("node eu-4") },
    { what: "a client uses it", members: [moved], recorded: ["client billing"], want: inUse("client billing") },
    { what: "not in sync", members: undefined, recorded: [], want: "not_ready: this node is not in sync with its cluster" },
  ];
  test.each(cases)("$what", ({ members, recorded, want }) => {
    const refusal = (isForced: boolean) => refusalOf(() => judgeDrop(OLD, { published: all, members }, recorded, isForced));
    expect(refusal(false)).toBe(want);
    expect(refusal(true)).toBe("");
  });

  test("long lists are cut", () => {
    const recorded = ["1", "2", "3", "4", "5", "6", "7"].map((name) => `client ${name}`);
    const refusal = refusalOf(() => judgeDrop(OLD, { published: all, members: [] }, recorded, false));
    expect(refusal).toBe(inUse("client 1, client 2, client 3, client 4, client 5 and 2 others"));
  });

  test("the last root stays", () => {
    expect(refusalOf(() => judgeDrop(OLD, { published: [OLD], members: [] }, [], true))).toMatch(/^invalid_argument: root_id: is the only/);
  });
});
