/** Hub and spoke at the sizes of a company. */
import { expect, test } from "vitest";
import { runStar } from "../fakes/star-world.ts";

test.each([
  [20, 3],
  [50, 3],
])(
  "in a star of %i nodes around %i hubs all hear of everything, are in step, and nobody is suspected",
  (count, hubCount) => {
    const star = runStar(count, hubCount);
    // Spokes hear of each other by the hubs: of every heartbeat that is 5 s fresher.
    expect(star.ageMs).toBeLessThan(10_000);
    expect(star).toMatchObject({ unaware: [], suspectCount: 0, deadCount: 0 });
    expect(star.aliveCounts).toEqual(star.aliveCounts.map(() => count - 1));
  },
  300_000,
);
