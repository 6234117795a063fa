/** A watch whose namespaces find no room any more. */
import { expect, test } from "vitest";
import { WaymarkError } from "../../src/lib/errors.ts";
import { FollowedSource } from "../../src/services/resolving/upstream-query.ts";
import type { StreamSource } from "../../src/services/service.ts";

test("it goes on as its source does, and ends with the refusal without telling what was let go", () => {
  const now: { refusal?: WaymarkError } = {};
  const [ended, closed]: [unknown[], number[]] = [[], []];
  const message = new Uint8Array([1]);
  const inner: StreamSource = { attach: () => {}, pull: () => message, isDrained: true, close: () => void closed.push(1) };
  const source = new FollowedSource(inner, () => now.refusal);
  source.attach(
    () => {},
    (error) => void ended.push(error),
  );
  const time = { monoMs: 0, wallMs: 0 };
  expect([source.pull(time), source.isDrained, ended]).toEqual([message, true, []]);
  now.refusal = new WaymarkError("quota_exceeded", "no room");
  expect([source.pull(time), ended]).toEqual([undefined, [now.refusal]]);
  source.close();
  expect(closed).toEqual([1]);
});
