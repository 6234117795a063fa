/** Newcomers, issuers and intruders in worlds that a seed draws; each takes about a twentieth of a second. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./joins.ts";

const SEEDS = sized(600, 24);

test("a token admits as many programs as it grants, and a name has one key, whatever is lost and repeated", async () => {
  const happened = new Map<string, number>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = await runSeed(seed);
    expect(outcome.violation, `seed ${seed}`).toBeUndefined();
    for (const [name, count] of Object.entries(outcome.happened)) happened.set(name, (happened.get(name) ?? 0) + count);
  }
  console.log("joins:", Object.fromEntries(happened));
  expect(await runSeed(1), "a seed run twice").toEqual(await runSeed(1));
  const rare = ["joined", "renewed", "lost", "identity_taken", "key_copied", "revoked", "token_expired", "token_spent", "join_denied"];
  const problems = ["identity_expired", "token_unknown", "token_wrong_cluster"];
  expect([...rare, ...problems].filter((name) => !happened.has(name))).toEqual([]);
});
