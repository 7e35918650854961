"""Word lists and patterns by which the segmentation rule tells a restatement from a stance.

`judge.py` uses them; `details.py` beside it has the cues of what goes on after a restatement. Every pattern is matched
against a case-folded sentence without its opening fillers ("Okay, so ..."). To add a language, add its words below.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _head(*alternatives: str) -> re.Pattern[str]:
    """Compile alternatives for the head of a sentence; one that ends in a letter must end a word."""
    return re.compile(r"(?:" + "|".join(alternatives) + r")(?:(?<=[^\W_])(?![a-zà-ÿа-я'’])|(?<![a-zà-ÿа-я]))")


# Words that open a sentence without content: "Okay, so ...", "Hmm, ...", "好的，...".
FILLER = re.compile(
    r"(?:okay|ok|alright|all right|right|so|well|now|then|and|but|wait|hmm+|hm|umm?|uh|ohh?|ah|aha|great|"
    r"good|sure|"
    r"hold on|also|additionally|actually|basically|specifically|essentially|apparently|anyway|yes|yeah|"
    r"(?:this is |that's )?(?:an? )?interesting(?: one| question| request)?|"
    r"let'?s see|let me see|let me think|here|"
    r"gut|also gut|na gut|alles klar|in ordnung|d'accord|bon|bien|très bien|alors|voyons|vale|bueno|de "
    r"acuerdo|muy bien|"
    r"certo|tudo bem|bom|então|va bene|allora|oké|goed|tamam|peki|được rồi|dobrze|dobra|no dobrze|oke|baik|"
    r"хорошо|ладно|итак|ну|так|добре|حسنا|حسناً|طيب|حسنًا|ठीक है|अच्छा|तो|好的|好吧|好|嗯+|"
    r"那么|那|首先看一下|えっと|えーと|"
    r"うーん|さて|なるほど|では|はい|わかりました|음|네|좋아|좋아요|자|알겠습니다|그래)"
    r"(?=[\s,.!?…:;，。、！：—–-]|$|(?<=[一-鿿]))[\s,.!?…:;，。、！：—–*-]*"
)

# A whole sentence without content: K extends to the next sentence.
INTERJECTION = re.compile(
    r"[\W_]*(?:(?:hmm+|hm|um+|uh|oh+|ah|okay|ok|alright|wait|well|so|right|嗯+|好的?|うーん|えっと|음|네)[\W_]*)*"
)

# Fillers of hesitation: after a restatement they announce the key sentence.
PAUSE = re.compile(r"(?:hmm+|hm|wait|嗯+|うーん|음)(?!\w)")

# The person who asked, as the subject of a sentence.
PERSON = _head(
    r"(?:it (?:seems|looks|sounds|appears) (?:like |that |as if )?|(?:in|from) (?:this|the|their|his|her) "
    r"[\w-]+,? |"
    r"i (?:see|understand|notice|gather) (?:that )?|today,? |it's )?"
    r"(?:(?:the|this|our|my|a|an) )?(?:\w+ )?(?:users?|asker|questioner|customer|client|requester|"
    r"inquirer|person asking|"
    r"poster|op)(?! (?:safety|experience|input|interface|data))",
    r"someone|somebody",
)
PRONOUN = _head(r"they(?:'re|'ve|'d|’re|’ve|’d)?", r"(?:s?he)(?:'s|’s)?")
POSSESSOR = _head("their|his|her")  # the query's "my"
FOREIGN_PERSON = re.compile(
    r"(?:[\w'’]{1,12}[ '’]){0,2}?(?:nutzer(?:in)?|benutzer(?:in)?|anwender(?:in)?|utilisat(?:eur|rice)|"
    r"usuari[oa]|"
    r"utente|utilizator(?:ul)?|gebruiker|användaren?|brugeren?|brukeren?|käyttäjä|użytkowni(?:k|czka)|"
    r"uživatel(?:ka)?|"
    r"používateľ|felhasználó|kullanıcı|pengguna|mtumiaji|người dùng|пользовател(?:ь|ьница)|користувач(?:ка)?|"
    r"χρήστης|المستخدم[ةه]?|السائل|کاربر|המשתמשת?|उपयोगकर्ता|उपयोगकर्त्ता|यूज़र|यूजर|ব্যবহারকারী|பயனர்|"
    r"వినియోగదారు|ผู้ใช้)(?!\w)"
    r"|(?:这位|这个|该|現在|现在|看起来|看来)?(?:用户|用戶|使用者|提问者|对方)(?!的(?:安全|隐私|体验))|题目|(?:这个|"
    r"这道)?(?:问题|题)(?:是|问|要求)"
    r"|[他她](?:想|要|说|问|希望|提到|还|需要|在|没)"
    r"|(?:ユーザー|利用者|質問者)(?:さん)?(?:は|が|から|も|の(?:質問|要求|依頼|要望|リクエスト|意図|発言|メッセージ))"
    r"|(?:質問|依頼|要求|問題|お題)(?:は|の内容)|(?:\S{1,12}の)?指定(?:は|が)"
    r"|(?:이 |그 )?(?:사용자|유저|이용자|질문자)(?:님)?(?:가|는|은|이|의 (?:질문|요청|의도))"
    r"|(?:질문|문제|요청)(?:은|는|이)"
)
# Verbs at the head of a sentence, with "the user" as unspoken subject, and impersonal "I am asked".
FOREIGN_REQUEST = _head(
    r"(?:quiere|pide|pregunta|busca|necesita|menciona|dice|desea|también (?:quiere|pide)|se me pide|me "
    r"pide[n]?)",
    r"(?:quer|pede|pergunta|precisa|vuole|chiede|cerca|mi (?:si )?chiede|mi viene chiesto|pediram-me)",
    r"(?:il|elle|iel) (?:veut|demande|souhaite|cherche|voudrait|dit|précise|mentionne)|on me demande",
    r"(?:er|sie) (?:möchte|will|fragt|bittet|sagt|braucht|sucht|erwähnt|hat|wünscht)|ich (?:soll|wurde "
    r"gebeten)|gefragt ist",
    r"(?:он|она) (?:хочет|просит|спрашивает|говорит|ищет|упоминает)|меня (?:просят|спрашивают)",
    r"(?:hij|zij|ze) (?:wil|vraagt|zoekt|zegt)|(?:يريد|يسأل|يطلب|تريد|تسأل|تطلب|يقول|يبحث)|(?:वह|वे) \S*",
)

# Guessing about the user, in a sentence that has the user as its subject.
FOREIGN_JUDGED = re.compile(
    r"可能|也许|应该|かもしれ|はず|べき|könnte|sollte|vielleicht|pourrait|devrait|podría|debería|poderia|potrebbe|"
    r"может|возможно|수도 있|ربما|शायद"
)

# The query, as the subject of a sentence, and predicates that repeat it rather than judge it.
TEXT = _head(
    r"(?:(?:the|this|their|his|her|our|my|actual|user's|user’s|users'|main|core|first|given|simple|"
    r"short|quick|basic|a|an) )*"
    r"(?:question|query|request|prompt|message|problem|task|statement|instructions?|scenario|input|"
    r"exercise|puzzle)"
    r"(?: here| at hand| itself)?",
)
TEXT_REPEATS = re.compile(
    r"[\s'’]*(?:[:\"“]|(?:(?:is|are|was|'s|’s|just|simply|basically) )*(?:about|asking|asks?|to |for|"
    r"whether|if |how|what|"
    r"why|who|when|where|which|that |from|says?|said|reads?|states?|stated|involves?|wants?|seeks?|"
    r"describes?|mentions?|"
    r"contains?|tells?|requires?|requests?|gives?|given|sets?|goes|starts?|claims?|expresses|presents?|includes?|"
    r"consists|\"|“))"
)

_ADVERBS = r"[\s'’]*(?:s |is |are |re |was )*(?:(?:clearly|obviously|essentially|really|actually|just|also|now) )*"
# Judging or excusing the user, right after "the user": a stance, unless a verb of asking comes first.
PERSON_JUDGED = re.compile(
    _ADVERBS + r"(?:should|must|can |cannot|can't|would (?:be|benefit|need)|isn'?t|isn’t|aren'?t|aren’t|not |"
    r"doesn['’]?t (?:seem|appear|need)|deserves?|violat\w+|"
    r"trying to (?:trick|bypass|jailbreak|manipulate|get around|circumvent|exploit|test))"
)
# A guess about the intention behind the request: a restatement, unless it accuses or leads to a resolve.
PERSON_GUESSED = re.compile(_ADVERBS + r"(?:might|may|could|seems?|appears?|probably|perhaps|possibly|likely)\b")
RESOLVES = re.compile(
    r"\b(?:so|and) (?:i|we)\b|\b(?:i|we) (?:should|need|must|will|can)|\bi'll\b|trying to|misconception|misunderst|"
    r"bypass|trick|malicious|intent"
)
REPORTS = re.compile(
    r"ask|want|request|need|would like|say|said|mention|claim|wish|look(?:s|ing)? for|seek|wonder|describ|"
    r"inquir|tell"
)
# A third party of the query's story, reporting: "The friend said that ...".
THIRD_PARTY = re.compile(
    r"(?:the|this|that|another|one) (?:\w+ ){0,2}?"
    r"(?:says?|said|mention(?:s|ed)|claim(?:s|ed)|want(?:s|"
    r"ed)|told|has|had) "
)
# What "they" do in a restatement of a user's query; other verbs may be about things that the query names.
PERSON_DOES = re.compile(
    r"(?:['’](?:re|ve|d|s)\b|(?:\s*(?:are|is|was|were|have|has|had|do|does|did|don|didn|doesn|isn|aren|also|just|only"
    r"|even|then|"
    r"not|never|already|might|may|could|seem|seems|appear|appears|probably|perhaps|possibly|likely|specif|clearly|"
    r"would|"
    r"live|lives|work|works|use|uses|give|gives|provide|provides|include|add|adds|list|lists|emphasi|clarif|explain|"
    r"state|"
    r"states|express|think|feel|believe|plan|try|tried|hope|love|like|hate|prefer|know|"
    r"ask|want|request|need|say|said|mention|claim|wish|look|seek|wonder|describ|inquir|tell|told)))"
)
# "First, ..." that opens the restatement itself.
FIRST = re.compile(r"(?:first(?:ly)?,? |首先，|首先,|まず、|먼저,? |zuerst |d'abord,? |primero,? |сначала )")
# Words of judgement and policy: they make a sentence with "I need to ..." a stance.
JUDGES = re.compile(
    r"polic(?:y|ies)|guideline|refus|careful|comply|complies|compliant|safely|safety|appropriate(?:ly)?\b|"
    r"harmful|illegal|"
    r"unethical|disallowed|sensitive|cautio|concern|ethic|not (?:provide|help|assist)|make sure|ensure|"
    r"consider\b|check|"
    r"dangerous|wrong|crime|criminal|fraud|unsafe|违法|非法|犯罪|違法|불법|незакон|il+[eé]gal|strafbar|gefährlich|अवैध|"
    r"empath|adher|without (?:violat|encourag|promot)|remember|recall|carefully"
)

# A sentence that denies what the query says is no restatement.
DENIES = re.compile(
    r"n['’]t\b|\b(?:not|no|never|nothing|regardless|nicht|kein\w*|pas|não|non|не|нельзя|नहीं|لا)\b|不|没|ない|ません|"
    r"않|없"
)
# Working on the query, not reading it: a plan, once the query is restated.
TACKLES = re.compile(r"\b(?:break|tackle|unpack|look|go through|polic|guideline|safety)")

# The task of the writer: "I need to ...", "We have ...", "Let me explain ...".
TASK = _head(
    r"(?:i|we)(?:'ll| will|'m| am|'re| are|'ve| have|'ve got| got)? ?(?:just |also )*(?:need(?:ed)? to|"
    r"have to|got to|must|want to|"
    r"should|gotta|going to|trying to|have|need|got|will|am|are|given|looking at|faced with)",
    r"(?:i'm|we're|i've|we've|i’m|i’ve) ?(?:trying to|looking at|going to|got|given|faced with|working on)?",
    r"let(?: me|'s|’s| us)|need(?: to)?|(?:my|our|the) (?:task|job|goal|aim) (?:here )?is(?: to)?|must|"
    r"given|time to|"
    r"(?:ich|wir) (?:muss|müssen|soll|sollen|möchte|will|werde)|je (?:dois|vais|veux)|(?:tengo|debo|"
    r"necesito|voy) \w*|"
    r"(?:preciso|devo|tenho)|мне (?:нужно|надо|следует)|нужно|надо|ik (?:moet|wil)|muszę",
)
ASKED = _head(
    r"(?:so )?(?:i|we)(?:'m|’m| am|'re|’re| are|'ve|’ve| have|'ve been|'ve just been| was| were)? "
    r"?(?:been |being |just )*"
    r"(?:asked|told|supposed|requested|instructed|prompted|tasked|presented|given)",
    r"(?:what (?:is|was|['’]s) )(?:being |to be )?(?:asked|wanted|requested|required|needed)(?: for)?(?! (?:to|is|"
    r"are) )",
    r"(?:asks?|asking|wants|wanting|wanted|requesting|requests|wondering|looking|seeking|seeks|wishes|inquires) "
    r"(?:about|for|to|how|if|whether|what|why|where|when|which|who|me|us|an?|the)",
    r"there(?:'s|’s| is) (?:a|this) (?:user|person|request|question|query|problem)",
    r"(?:this|it|here)(?:'s|’s| is) (?:a|the|another) (?:question|query|request|prompt|problem|task) "
    r"(?:about|on|asking|for|to|from|regarding|where|of)",
    r"(?:looking at|reading|according to|based on) (?:the|this|their) (?:user's |user’s )?(?:query|"
    r"question|request|prompt|"
    r"message), (?:the user|they|it asks)",
)
# Turning to the query itself: "Let me read their request again".
READS = re.compile(
    r"(?:let me|let's|let’s|i'll|i’ll|i need to|i should|i want to|i have to|we need to)[^.;:]{0,60}?"
    r"\b(?:read|reread|re-read|look|looking|parse|understand|understanding|break(?:ing)? down|go over|go "
    r"through|"
    r"re-examine|unpack|clarify|make sense|see what|parsing|reading|tackle|figure out what)\b[^.;]{0,50}?"
    r"\b(?:question|query|request|prompt|message|problem|user|situation|ask(?:ing|ed)|says|said|wants|again)"
)
# "... how to respond to the user's question": the writer's task, named by its object.
NAMES_QUERY = re.compile(
    r"(?:user|someone|person)(?:['’]s)?\b|\b(?:their|this|the) (?:question|query|request|statement|prompt)"
)

# Openers that start the work, take a stance or recall a rule.
STANCE = _head(
    r"first(?:ly| of all| off)?|second(?:ly)?|next|to (?:begin|start|answer|determine|solve|find|do|get|"
    r"address)|my first",
    r"(?:that|this|these|those|it|there)(?:'s|’s| is| are| was| sounds?| seems?| looks?| could| might| "
    r"may| would| falls?|"
    r"'ll| will| can(?:not)?| can't| violat\w+| touches| involves| raises| isn't| doesn't| depends| "
    r"appears| feels)",
    r"(?:i|we)(?:'d|’d| would)? (?:should|shouldn't|can|can't|can’t|cannot|could|couldn't|remember|recall|"
    r"know|think|believe|"
    r"guess|wonder|don't|don’t|won't|won’t|refuse|do not|may|might|must not|am not|want to (?:be|make "
    r"sure|ensure))",
    r"(?:i'm|i’m|i am) (?:not|sorry|unable|concerned|worried|afraid|pretty|fairly|going|thinking)",
    r"let (?:\w+ ){1,4}(?:be|denote|equal)\b|let \w+ =|suppose|assume|set |note that|notice that|"
    r"maybe|perhaps|probably|according to|under (?:the|our|policy|section)|since|because|however|even "
    r"(?:if|though)|although|"
    r"though|regardless|if |policy|policies|openai|safety|no |yes|none|disallowed|allowed|not |should|"
    r"can't|cannot|must not|"
    r"obviously|clearly|generally|normally|usually|typically|of course|one (?:way|option|approach|thing)|"
    r"from (?:what|my|a)|"
    r"my (?:goal|aim|first|priority|main)|what (?:about|i|we|if)|as an? |sounds|seems|safe|"
    r"straightforward|simple|easy|"
    r"provide|answer|use|compute|refuse|start|let me (?:start|begin|think|recall|consider\b|check|first|"
    r"break (?:it|this)|try|"
    r"make|list|brainstorm|outline|work|go)|let's (?:start|think|recall|consider\b|check|craft|compute|"
    r"try|brainstorm|produce|do)",
    r"zuerst|zunächst|erstens|das (?:ist|wäre|klingt|könnte)|dies|ich (?:sollte|kann|darf|werde|denke|"
    r"erinnere|weiß|glaube)|"
    r"d'abord|premièrement|(?:c'est|cela|ceci|ça)|je (?:ne|peux|pense|devrais|refuse|me)|il faut|"
    r"primero|en primer lugar|est[oae] |eso |debería|no |usaré|recuerdo|creo|pienso|hay que|"
    r"primeiro|isso|isto|não|devo recusar|prima|innanzitutto|quest[oa]|non |eerst|dit |dat |ik (?:kan|mag|zal)|"
    r"сначала|во-первых|прежде|это|я (?:не|должен|могу|думаю|помню)|нельзя|önce|bu |öncelikle|trước tiên|"
    r"đầu tiên|đây|điều này|"
    r"najpierw|to |nie |أولا|أولاً|هذا|هذه|لا |يجب|سأ\w*|ينبغي|सबसे पहले|पहले|यह |ये |मुझे|मैं",
    r"首先|这|這|我(?:不|应该|可以|得|必须|想|觉得|记得)|根据|不能|需要|可能|先|まず|これ|それは|私は|最初に|먼저|"
    r"우선|이것|이는|이건|나는|저는|그건",
)

# Function words and words of asking: sharing them with the query is no evidence of a restatement.
STOP_WORDS = _words(
    "a an the this that these those there here i me my we us our you your he him his she her it its they them their "
    "theirs is are was were be been being am do does did done have has had having will would can could shall should "
    "may might must of in on at to for from with without about into over by as if so or and but not no nor than then "
    "when while how what why who whom which where whether some any all also just only very more most such like up "
    "out off s t re ve ll d m don doesn isn user users asks ask asked asking wants want wanted need needs needed "
    "request requests requesting question query prompt respond response answer reply says said saying mentions "
    "mentioned mention tell told let let's figure know knows okay hmm please help way best think thing something "
    "exist exists seem seems seemed appear appears apparently too though still yet even else among during between "
    "along well because since both each few lot bit way ones while really "
    "someone get make made give provide look looking specifically "
    "der die das den dem ein eine einen und oder ist wie was ich er sie es mir zu zum zur von mit für auf "
    "im in nutzer benutzer "
    "sie ihr ihre ihren ihrem seine seinen seiner ihm ihn wir uns nach bei aus auch noch nur nicht kein sehr dass"
    " ob "
    "wird werden wurde sind waren haben hatte soll sollen muss kann will möchte geht darum es hier "
    "ils elles on lui leur leurs ce cette ces ses sa mon ma mes se ne pas plus avec sans sur par a ont sont être "
    "faire fait "
    "ella ellos ellas lo le les sus mi mis tiene tienen ser está están con sin más pero quiere pide "
    "lui lei loro suo sua suoi sue ha hanno sono essere si un una con senza più ma vuole "
    "ele ela eles elas seus suas sua têm tem são está com sem mais mas quer "
    "le la les un une des du de et ou est que qui comment je il elle pour dans au aux utilisateur "
    "el los las una y o es como cómo que qué yo se su por para en del al usuario "
    "o os as um uma e como eu seu para por no na do da il lo gli di che come per del della "
    "и в на не что как я он она его её с по для это की के का है और में कि से"
)
