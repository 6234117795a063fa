/** The attacker's process: `h2-attacker-child.ts PORT NAME [SECONDS]` attacks once, or again and again, and prints JSON. */
import { endNow } from "../fakes/end-now.ts";
import { type AttackResult, attack } from "./h2-attacks.ts";

const [port = "", name = "", seconds = "0"] = process.argv.slice(2);
const end = performance.now() + Number(seconds) * 1_000;
let reachedCount = 0;
let result: AttackResult;
do {
  result = await attack(name, Number(port));
  if (result.isConnected) reachedCount += 1;
} while (performance.now() < end);
console.log(JSON.stringify({ ...result, reachedCount }));
endNow();
