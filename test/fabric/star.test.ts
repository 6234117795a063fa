/** Hub and spoke: where spokes reach hubs only, nobody is taken for dead, and everybody is in step. */
import { expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { runStar } from "../fakes/star-world.ts";

test.each(
  some([
    [8, 1, 20],
    [8, 3, 20],
    [12, 1, 4],
  ] as const),
)("in a star of %i nodes around %i hubs, %i links wanted, all hear of everything and are in step", (count, hubCount, maxLinks) => {
  const star = runStar(count, hubCount, maxLinks);
  // Spokes hear of each other by the hubs: of every heartbeat that is 5 s fresher.
  expect(star.ageMs).toBeLessThan(10_000);
  expect(star).toMatchObject({ unaware: [], suspectCount: 0, deadCount: 0 });
  expect(star.aliveCounts).toEqual(star.aliveCounts.map(() => count - 1));
});
