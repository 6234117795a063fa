/** The nodes that a link is wanted to, and when each is tried. */
import { expect, test } from "vitest";
import { LinkRetry } from "../../../src/fabric/links/retry.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { LINKS_OPTIONS } from "../../fakes/options.ts";

function at(monoMs: number): { readonly monoMs: number; readonly wallMs: number } {
  return { monoMs, wallMs: 0 };
}

function peersOf(...nodeIds: readonly string[]): LinkRetry {
  const peers = new LinkRetry(LINKS_OPTIONS, { nodeId: "m", rng: new Rng(1) });
  peers.want(
    nodeIds.map((nodeId) => ({ nodeId, address: `${nodeId}:1` })),
    at(1000),
  );
  return peers;
}

test("a greater id is tried at once, a smaller one is given the time to try us", () => {
  const [greater, smaller] = peersOf("z", "a").list;
  expect(greater?.openMonoMs).toBe(1000);
  expect(smaller?.openMonoMs).toBeGreaterThanOrEqual(1000 + LINKS_OPTIONS.yieldMs / 2);
  expect(smaller?.openMonoMs).toBeLessThanOrEqual(1000 + LINKS_OPTIONS.yieldMs * 1.5);
});

test("one that is wanted no more is let go after a while, unless it is wanted again", () => {
  const peers = peersOf("y", "z");
  peers.want([{ nodeId: "z", address: "z:1" }], at(2000));
  expect(peers.list.map(({ nodeId, isWanted, releaseMonoMs }) => [nodeId, isWanted, releaseMonoMs])).toEqual([
    ["y", false, 2000 + LINKS_OPTIONS.notWantedMs],
    ["z", true, Number.POSITIVE_INFINITY],
  ]);
  peers.want([{ nodeId: "y", address: "y:1" }], at(3000));
  expect(peers.list.map(({ nodeId, isWanted }) => [nodeId, isWanted])).toEqual([
    ["y", true],
    ["z", false],
  ]);
});

test("waits grow with failures up to the bound, and start again after a link that lasted", () => {
  const peers = peersOf("z");
  const waits = Array.from({ length: 20 }, (_, i) => {
    const nowMs = (i + 1) * 100_000;
    peers.retryLater("z", at(nowMs));
    return (peers.list[0]?.openMonoMs ?? 0) - nowMs;
  });
  expect(waits[0]).toBeLessThanOrEqual(LINKS_OPTIONS.reconnectBaseMs);
  expect(Math.max(...waits)).toBeLessThanOrEqual(LINKS_OPTIONS.reconnectMaxMs);
  expect(Math.max(...waits)).toBeGreaterThan(LINKS_OPTIONS.reconnectMaxMs / 2);
  peers.lasted("z");
  peers.retryLater("z", at(9_000_000));
  expect(peers.list[0]?.openMonoMs).toBeLessThanOrEqual(9_000_000 + LINKS_OPTIONS.reconnectBaseMs);
});

test.each([
  ["wrong_token", LINKS_OPTIONS.refusedRetryMs],
  ["duplicate_node", LINKS_OPTIONS.refusedRetryMs],
  ["too_many_links", LINKS_OPTIONS.reconnectMaxMs],
  ["leave", LINKS_OPTIONS.reconnectMaxMs],
] as const)("after %s it is tried again in about %i ms", (reason, aboutMs) => {
  const peers = peersOf("z");
  peers.retryAfter("z", reason, at(5000));
  const waitMs = (peers.list[0]?.openMonoMs ?? 0) - 5000;
  expect(waitMs).toBeGreaterThanOrEqual(aboutMs / 2);
  expect(waitMs).toBeLessThanOrEqual(aboutMs * 1.5);
});

test("when what was refused may be taken now, all are tried at once, and the next failure is the first again", () => {
  const peers = peersOf("z");
  for (let i = 0; i < 10; i++) peers.retryLater("z", at(5000));
  peers.retryAfter("z", "wrong_token", at(5000));
  peers.retryNow();
  expect(peers.list[0]?.openMonoMs).toBeLessThanOrEqual(5000);
  peers.retryLater("z", at(5000));
  expect(peers.list[0]?.openMonoMs).toBeLessThanOrEqual(5000 + LINKS_OPTIONS.reconnectBaseMs);
});

test("strangers are not remembered", () => {
  const peers = peersOf("z");
  peers.retryLater("stranger", at(0));
  peers.retryAfter("stranger", "wrong_token", at(0));
  peers.forget("z");
  expect(peers.list).toEqual([]);
});
