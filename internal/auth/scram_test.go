package auth

import (
	"context"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/auth/passwords"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// rfcVerifier is the user of RFC 7677, section 3.
const rfcVerifier = "user:$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"

func TestSCRAMVectorOfRFC7677(t *testing.T) {
	file, err := passwords.Parse("p", []byte(rfcVerifier))
	if err != nil {
		t.Fatal(err)
	}
	c := &conversation{}
	nonce := func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" }
	first, err := c.begin(&Authenticator{}, []*passwords.File{file}, []byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), nonce)
	if err != nil || string(first) != "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" {
		t.Fatalf("first message %q, error %v", first, err)
	}
	final, err := c.Step("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	if err != nil || final != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" || !c.Valid() {
		t.Errorf("final message %q, error %v", final, err)
	}
}

// scramLogin runs a whole conversation and returns the last code and user, and whether the client believes the broker.
func scramLogin(t *testing.T, l Login, stage abi.AuthStage, connectUser, user, password, authz string) (mqtt.ReasonCode, string, bool) {
	t.Helper()
	client, err := scram.SHA256.NewClient(user, password, authz)
	if err != nil {
		t.Fatal(err)
	}
	talk := client.NewConversation()
	message, err := talk.Step("")
	if err != nil {
		t.Fatal(err)
	}
	r := &abi.AuthRequest{Stage: stage, ClientID: "c1", HasUser: connectUser != "", User: connectUser, Method: scramMethod, Data: []byte(message)}
	code, answer := l.Step(context.Background(), r)
	if code != mqtt.ContinueAuthentication {
		return code, answer.User, false
	}
	if message, err = talk.Step(string(answer.Data)); err != nil {
		t.Fatalf("the client does not understand %q: %v", answer.Data, err)
	}
	code, answer = l.Step(context.Background(), &abi.AuthRequest{Stage: abi.AuthContinue, Method: scramMethod, Data: []byte(message)})
	_, err = talk.Step(string(answer.Data))
	return code, answer.User, err == nil && talk.Valid()
}

func TestSCRAM(t *testing.T) {
	file := writeFile(t, "p", rfcVerifier+scramLine(t, "müller", "säge")+argon2(t, "hashed", "x"))
	a := open(t, Config{Sources: []Source{{Listeners: []string{"tls"}, Passwords: &Passwords{File: file}}}})
	if m := a.Methods(); len(m) != 1 || m[0] != "SCRAM-SHA-256" {
		t.Errorf("methods %v", m)
	}
	for _, c := range []struct {
		connectUser, user, password, authz string
		code                               mqtt.ReasonCode
		as                                 string
	}{
		{"", "user", "pencil", "", mqtt.Success, "user"},
		{"user", "user", "pencil", "user", mqtt.Success, "user"},
		{"", "müller", "säge", "", mqtt.Success, "müller"},
		{"", "mu\u0308ller", "sa\u0308ge", "", mqtt.Success, "müller"}, // the same after SASLprep
		{"", "user", "pen", "", mqtt.BadUserNameOrPassword, ""},
		{"", "nobody", "pencil", "", mqtt.BadUserNameOrPassword, ""},
		{"", "hashed", "x", "", mqtt.BadUserNameOrPassword, ""}, // has no verifier
		{"other", "user", "pencil", "", mqtt.BadUserNameOrPassword, ""},
		{"", "user", "pencil", "admin", mqtt.BadUserNameOrPassword, ""},
	} {
		code, as, believed := scramLogin(t, a.Login(Client{Listener: "tls"}), abi.AuthConnect, c.connectUser, c.user, c.password, c.authz)
		if code != c.code || as != c.as || believed != (c.code == mqtt.Success) {
			t.Errorf("%+v: %s as %q, the client believes the broker: %v", c, code, as, believed)
		}
	}
	if code, _, _ := scramLogin(t, a.Login(Client{Listener: "plain"}), abi.AuthConnect, "", "user", "pencil", ""); code != mqtt.BadAuthenticationMethod {
		t.Errorf("on a listener without password file: %s", code)
	}
}

func TestSCRAMAgain(t *testing.T) {
	a, _, _ := guarded(t, Config{Sources: passwordSources(writeFile(t, "p", rfcVerifier+scramLine(t, "bob", "b")))}, 100)
	l := a.Login(Client{Address: remote})
	for i, c := range []struct {
		stage          abi.AuthStage
		user, password string
		code           mqtt.ReasonCode
	}{
		{abi.AuthConnect, "user", "pencil", mqtt.Success},
		{abi.AuthReconnect, "user", "pencil", mqtt.Success},
		{abi.AuthReconnect, "bob", "b", mqtt.NotAuthorized},      // another user
		{abi.AuthReconnect, "user", "wrong", mqtt.NotAuthorized}, // DISCONNECT knows no 0x86
	} {
		if code, _, _ := scramLogin(t, l, c.stage, "", c.user, c.password, ""); code != c.code {
			t.Errorf("step %d: %s, want %s", i, code, c.code)
		}
	}
}

// TestSCRAMDoesNotTellWhoExists compares what a stranger sees before a password is needed.
func TestSCRAMDoesNotTellWhoExists(t *testing.T) {
	path := writeFile(t, "p", rfcVerifier)
	a := open(t, Config{Sources: passwordSources(path)})
	ask := func(name string) (salt, iterations string) {
		_, answer := a.Login(Client{}).Step(context.Background(),
			&abi.AuthRequest{Stage: abi.AuthConnect, Method: scramMethod, Data: []byte("n,,n=" + name + ",r=abcdefgh")})
		parts := strings.Split(string(answer.Data), ",")
		if len(parts) != 3 {
			t.Fatalf("%s: the answer is %q", name, answer.Data)
		}
		return parts[1], parts[2]
	}
	userSalt, userIterations := ask("user")
	salt, iterations := ask("nobody")
	again, _ := ask("nobody")
	other, _ := ask("somebody")
	if salt != again || salt == other {
		t.Errorf("salts %s, %s, %s: they must be the same for a name, and differ between names", salt, again, other)
	}
	if len(salt) != len(userSalt) || iterations != userIterations {
		t.Errorf("%s %s does not look like %s %s", salt, iterations, userSalt, userIterations)
	}
}

func TestBadSCRAMMessages(t *testing.T) {
	a := open(t, Config{Sources: passwordSources(writeFile(t, "p", rfcVerifier))})
	for _, first := range []string{
		"", "x", "n,,n=user", "p=tls-unique,,n=user,r=abc", "n,,m=ext,n=user,r=abc", "n,,n=us=er,r=abc", strings.Repeat("n", 5000),
		"n,,n=user,r=" + strings.Repeat("a", 5000),
	} {
		code, answer := a.Login(Client{}).Step(context.Background(), &abi.AuthRequest{Stage: abi.AuthConnect, Method: scramMethod, Data: []byte(first)})
		if code != mqtt.BadUserNameOrPassword || len(answer.Data) != 0 {
			t.Errorf("%.30q: %s with %q", first, code, answer.Data)
		}
	}
	for _, final := range []string{"", "c=biws,r=abc,p=AAAA", "n,,n=user,r=abc", strings.Repeat("c", 5000)} {
		l := a.Login(Client{})
		l.Step(context.Background(), &abi.AuthRequest{Stage: abi.AuthConnect, Method: scramMethod, Data: []byte("n,,n=user,r=abc")})
		r := &abi.AuthRequest{Stage: abi.AuthContinue, Method: scramMethod, Data: []byte(final)}
		if code, _ := l.Step(context.Background(), r); code != mqtt.BadUserNameOrPassword {
			t.Errorf("%.30q: %s", final, code)
		}
		if code, _ := l.Step(context.Background(), r); code != mqtt.ProtocolError {
			t.Errorf("%.30q, and again: %s", final, code)
		}
	}
	l := a.Login(Client{})
	l.Step(context.Background(), &abi.AuthRequest{Stage: abi.AuthConnect, Method: scramMethod, Data: []byte("n,,n=user,r=abc")})
	if code, _ := l.Step(context.Background(), &abi.AuthRequest{Stage: abi.AuthContinue, Method: "OTHER"}); code != mqtt.ProtocolError {
		t.Errorf("another method half-way: %s", code) // [MQTT-4.12.0-5]
	}
}

func FuzzSCRAM(f *testing.F) {
	a := open(f, Config{Sources: passwordSources(writeFile(f, "p", rfcVerifier))})
	f.Add([]byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), []byte("c=biws,r=abc,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	f.Add([]byte("y,a=x,n==2C,r="), []byte(",,"))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		l := a.Login(Client{})
		code, answer := l.Step(context.Background(), &abi.AuthRequest{Stage: abi.AuthConnect, Method: scramMethod, Data: first})
		if code != mqtt.ContinueAuthentication && !code.Failed() || len(answer.Data) > 2*maxSCRAM {
			t.Errorf("first %q: %s with %d bytes", first, code, len(answer.Data))
		}
		code, _ = l.Step(context.Background(), &abi.AuthRequest{Stage: abi.AuthContinue, Method: scramMethod, Data: final})
		if !code.Failed() {
			t.Errorf("%q and %q: %s", first, final, code)
		}
	})
}
