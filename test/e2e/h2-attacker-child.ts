/** The attacker's process: `h2-attacker-child.ts PORT NAME [SECONDS]` attacks once, or again and again, and prints JSON. */
import { endNow } from "../fakes/end-now.ts";
import { attack } from "./h2-attacks.ts";

const [port = "", name = "", seconds = "0"] = process.argv.slice(2);
const end = performance.now() + Number(seconds) * 1_000;
let count = 0;
let result = await attack(name, Number(port));
while (performance.now() < end) {
  count += 1;
  result = await attack(name, Number(port));
}
console.log(JSON.stringify({ ...result, count }));
endNow();
