/** What others can cause at will fills no log. */
import { expect, test } from "vitest";
import { SparseLog } from "../../../src/node/resolver/sparse-log.ts";

test("a line a minute is written of each kind and server, with the number of those that were left out", () => {
  const lines: string[] = [];
  const log = new SparseLog(({ upstream, detail, left_out }, message) => lines.push([message, upstream, detail, left_out ?? 0].join(" ")));
  for (let monoMs = 0; monoMs <= 60_000; monoMs += 1000) log.warn({ upstream: "a", detail: `${monoMs}` }, "lost", monoMs);
  log.warn({ upstream: "b", detail: "1" }, "lost", 60_000);
  log.warn({ upstream: "a", detail: "1" }, "garbled", 60_000);
  expect(lines).toEqual(["lost a 0 0", "lost a 60000 59", "lost b 1 0", "garbled a 1 0"]);
});

test("it remembers no more than a thousand servers", () => {
  let count = 0;
  const log = new SparseLog(() => (count += 1));
  for (let n = 0; n < 1001; n++) log.warn({ upstream: `${n}`, detail: "" }, "lost", 0);
  log.warn({ upstream: "1000", detail: "" }, "lost", 1);
  expect(count).toBe(1001);
  log.warn({ upstream: "0", detail: "" }, "lost", 1);
  expect(count).toBe(1002);
});
