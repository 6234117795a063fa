/** What a resolver tells its audit log of what it does by itself. */
import { expect, test } from "vitest";
import { replayEvent, resyncEvent } from "../../../src/node/resolver/reports.ts";

const NOBODY = {
  requestId: "",
  subjects: "",
  tokenId: "",
  ticket: "",
  principal: "",
  tenant: "",
  source: "",
  rule: "",
  before: "",
  after: "",
};
const AT = { wallMs: 1000 };
const UPSTREAM = "http://192.0.2.1:1";

test("a resync is noted with its reason, its upstream and what was fetched, and as one record for many", () => {
  const noted = { ...NOBODY, atWallMs: 1000, kind: "admin", action: "cache.resync", outcome: "noted" };
  const of = { kind: "resynced", upstream: UPSTREAM } as const;
  expect(resyncEvent({ ...of, reason: "digest", prefixes: ["svc"], times: 1 }, AT)).toEqual({
    ...noted,
    reason: "digest",
    namespace: "svc",
    detail: `from ${UPSTREAM}: svc`,
  });
  expect(resyncEvent({ ...of, reason: "gap", prefixes: ["", "svc"], times: 3 }, AT)).toEqual({
    ...noted,
    reason: "gap",
    namespace: "",
    detail: `from ${UPSTREAM}, the last of 3 resyncs since the previous record: all, svc`,
  });
});

test("a replay is noted with its entries and their age", () => {
  const noted = { ...NOBODY, atWallMs: 1000, kind: "admin", action: "resolver.replay", outcome: "noted", reason: "", namespace: "" };
  expect(replayEvent({ entryCount: 3, ageMs: 12.4 }, AT)).toEqual({ ...noted, detail: "3 entries, 12 ms old" });
  expect(replayEvent({ entryCount: 3, ageMs: Number.POSITIVE_INFINITY }, AT)).toEqual({ ...noted, detail: "3 entries, of unknown age" });
});
