/** What a resolver says of itself at /readyz. */
import { expect, test } from "vitest";
import { resolverChecks } from "../../../src/node/resolver/reports.ts";

const FAULT = "the upstream a:1 refuses this resolver: unauthenticated: token is unknown on this node";

test.each([
  {
    what: "nothing is heard yet",
    size: 0,
    isServing: false,
    read: "cannot read from any upstream; no data is cached yet",
    isAwaiting: true,
  },
  { what: "a copy is held", size: 2, isServing: false, read: "cannot read from any upstream; cached data is served", lacking: "7-00" },
  { what: "it is cut off", size: 0, isServing: true, read: "cannot read from any upstream; cached data is served", number: 7 },
  { what: "it reads a server", size: 2, isServing: true, current: "b:1", read: "reads b:1" },
])("when $what", ({ size, isServing, current, read, isAwaiting = false, lacking, number }) => {
  const isReady = !isAwaiting && lacking === undefined;
  const machine = {
    upstreams: { current, refused: [{ upstream: "c:1", refusal: "region", fault: "it is far" }] },
    fault: undefined,
    policy: { isReady, kept: { state: { lacking } } },
  };
  const policies = { isAwaiting, status: { isEnabled: number !== undefined, inForce: { number } } };
  const checks = (fault: string) =>
    resolverChecks({ machine, policies, replica: { lookup: { size } } } as never, { isServing, fault }).map(({ ok, detail }) => [
      ok,
      detail,
    ]);
  const unknown = isAwaiting ? "waiting for the current policy from an upstream" : `waiting for policy version ${lacking} from an upstream`;
  const known = number === undefined ? "none configured" : `version ${number} in force`;
  const others = (upstream: string) => [
    [isServing, isServing ? "loaded" : "loading"],
    [true, upstream],
    [isReady, isReady ? known : unknown],
  ];
  // Where one server is read, refusals and faults of others are for the log.
  const refused = current === undefined ? `${read}; c:1 is refused: it is far` : read;
  expect(checks("")).toEqual(others(refused));
  expect(checks(FAULT)).toEqual(others(current === undefined ? `${refused}; last fault: ${FAULT}` : read));
});
