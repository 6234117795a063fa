import { expect, test } from "vitest";
import { PendingQueryLimiter } from "../../../src/dns/server/pending-query-limiter.ts";

const TRUSTED = [{ bytes: Uint8Array.of(192, 0, 2, 0), prefixBits: 24 }];

test("a network has so many places to wait, and a trusted forwarder, which asks for others, as many as there are", () => {
  const places = new PendingQueryLimiter({ maxWaiting: 8, maxWaitingOfNetwork: 2 }, TRUSTED);
  const rooms = () => ["192.0.2.1", "203.0.113.1", "203.0.113.2", "198.51.100.1"].map((address) => places.roomFor(address));
  for (let i = 0; i < 2; i++) for (const address of ["192.0.2.1", "203.0.113.1"]) places.take(address);
  expect(rooms()).toEqual(["all", "nobody", "nobody", "all"]);
  // A quarter is for addresses that are proved.
  places.take("192.0.2.1");
  expect(rooms()).toEqual(["all", "nobody", "nobody", "all"]);
  places.take("192.0.2.1");
  expect(rooms()).toEqual(["proved", "nobody", "nobody", "proved"]);
  places.leave("203.0.113.1");
  expect(rooms()).toEqual(["all", "all", "all", "all"]);
  for (let i = 0; i < 3; i++) places.take("192.0.2.1");
  expect(rooms()).toEqual(["nobody", "nobody", "nobody", "nobody"]);
});
