/** The names of sessions. */
import { expect, test } from "vitest";
import { Session } from "../../../src/control/leadership/session.ts";

test("no name of a session is the beginning of another, so that a watch on one session does not see another", () => {
  const session = new Session({ nodeId: "n1", boot: "b1", leaseMs: 3000, isOwnStore: false });
  const names = Array.from({ length: 12 }, () => {
    const { name } = session;
    session.startOver(0);
    return name;
  });
  expect(names.filter((name) => names.some((other) => other !== name && other.startsWith(name)))).toEqual([]);
});
