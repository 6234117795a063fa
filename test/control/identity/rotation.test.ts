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
    { what: "one does not", members: [done, member("eu-2", OLD, OLD)], want: `not_ready: ${refused} eu-2` },
    { what: "one is silent", members: [done, { nodeId: "eu-3" }], want: `not_ready: ${refused} eu-3` },
    { what: "the issuer has just started", members: undefined, want: "not_ready: this node is not in sync with its cluster" },
  ];
  test.each(cases)("$what", ({ members, want }) => {
    expect(refusalOf(() => judgeIssue(NEW, { published, members }))).toBe(want);
  });

  test("the only root needs no agreement", () => {
    for (const roots of [[], [NEW]]) expect(refusalOf(() => judgeIssue(NEW, { published: roots, members: undefined }))).toBe("");
  });
});

describe("a root is dropped", () => {
  const NONE = { issuers: [], programs: [] };
  const all = [OLD, NEW];
  const moved = member("eu-1", NEW, OLD, NEW);
  const cases = [
    { what: "after all have moved", members: [moved], others: NONE, want: /^$/ },
    {
      what: "a node uses it",
      members: [moved, member("eu-2", OLD, OLD, NEW)],
      others: NONE,
      want: /^not_ready: live nodes have .*: eu-2$/,
    },
    { what: "a node is silent", members: [moved, { nodeId: "eu-3" }], others: NONE, want: /: eu-3$/ },
    { what: "a node has an unknown root", members: [member("eu-4", "", NEW)], others: NONE, want: /: eu-4$/ },
    { what: "an issuer uses it", members: [moved], others: { issuers: ["eu-2"], programs: [] }, want: /nodes issue .*: eu-2$/ },
    { what: "a client uses it", members: [moved], others: { issuers: [], programs: ["client billing"] }, want: /: client billing$/ },
    { what: "not in sync", members: undefined, others: NONE, want: /not in sync/ },
  ];
  test.each(cases)("$what", ({ members, others, want }) => {
    const refusal = (isForced: boolean) => refusalOf(() => judgeDrop(OLD, { published: all, members }, others, isForced));
    expect(refusal(false)).toMatch(want);
    expect(refusal(true)).toBe("");
  });

  test("long lists of nodes are cut", () => {
    const members = ["1", "2", "3", "4", "5", "6", "7"].map((nodeId) => member(nodeId, OLD));
    const refusal = refusalOf(() => judgeDrop(OLD, { published: all, members }, NONE, false));
    expect(refusal).toBe(`not_ready: live nodes have certificates under the root ${OLD}: 1, 2, 3, 4, 5 and 2 others`);
  });

  test("the last root stays", () => {
    expect(refusalOf(() => judgeDrop(OLD, { published: [OLD], members: [] }, NONE, true))).toMatch(
      /^invalid_argument: root_id: is the only/,
    );
  });
});
