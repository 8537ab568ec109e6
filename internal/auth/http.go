package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
	"unicode/utf8"
)

// maxAnswer bounds what is read of a service's answer, in bytes.
const maxAnswer = 4096

func (c *HTTP) check() error {
	if c.URL == "" {
		return errors.New(".http.url is missing: the service to ask")
	}
	if err := checkURL(c.URL, c.Insecure); err != nil {
		return fmt.Errorf(".http.url %w", err)
	}
	switch {
	case c.Timeout < 0 || c.Timeout > time.Minute:
		return fmt.Errorf(".http.timeout is %s: it must be at most a minute", c.Timeout)
	case c.MaxRequests < 0 || c.MaxRequests > 10_000:
		return fmt.Errorf(".http.max_requests is %d: it must be 1 to 10000", c.MaxRequests)
	case (c.Certificate == "") != (c.Key == ""):
		return errors.New(".http: certificate and key belong together")
	}
	return nil
}

// httpSource asks a service.
type httpSource struct {
	url     string
	timeout time.Duration
	client  *http.Client
	turns   turns
	trouble *nowAndThen
}

func openHTTP(c *HTTP, a *Authenticator) (*httpSource, error) {
	timeout, most := c.Timeout, c.MaxRequests
	if timeout == 0 {
		timeout = 3 * time.Second
	}
	if most == 0 {
		most = 64
	}
	client, err := httpClient(tlsFiles{c.CA, c.Certificate, c.Key}, timeout, most)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	return &httpSource{c.URL, timeout, client, newTurns(most), newNowAndThen(a.log, a.clock)}, nil
}

func (s *httpSource) judge(ctx context.Context, _ turns, q *question) verdict {
	if q.bare() {
		return undecided()
	}
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := s.ask(within, q)
	if err != nil {
		if ctx.Err() == nil {
			s.trouble.warn("the authentication service does not answer as it should: clients are refused", "url", s.url, "error", err)
		}
		return notNow("the authentication service did not judge")
	}
	return answer.verdict(q)
}

// httpQuestion is what the service is told.
type httpQuestion struct {
	ClientID       string  `json:"client_id"`
	User           *string `json:"user,omitempty"`
	Password       *string `json:"password,omitempty"`
	PasswordBase64 []byte  `json:"password_base64,omitempty"`
	Listener       string  `json:"listener"`
	Address        string  `json:"address,omitempty"` // left out for Unix sockets
	Port           uint16  `json:"port,omitempty"`
}

func (q *question) forHTTP() *httpQuestion {
	h := &httpQuestion{ClientID: q.ClientID, Listener: q.Listener}
	if q.Address.IsValid() {
		h.Address, h.Port = q.Address.Addr().Unmap().String(), q.Address.Port()
	}
	if q.HasUser {
		user := q.userName()
		h.User = &user
	}
	switch password := string(q.Password); {
	case q.HasPassword && utf8.ValidString(password):
		h.Password = &password
	case q.HasPassword:
		h.PasswordBase64 = q.Password
	}
	return h
}

// ask sends the question and reads the answer.
func (s *httpSource) ask(ctx context.Context, q *question) (*httpAnswer, error) {
	if !s.turns.take(ctx) {
		return nil, errors.New("too many are being asked about at once")
	}
	defer s.turns.give()
	body, err := json.Marshal(q.forHTTP())
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "vouchmq")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the status is %d, not 200", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	return parseAnswer(text)
}

// httpAnswer is what the service says.
type httpAnswer struct {
	Result string `json:"result"`
	User   string `json:"user"`
}

func parseAnswer(text []byte) (*httpAnswer, error) {
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	var a httpAnswer
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, errors.New("the answer is not the JSON object that was asked for")
	}
	switch a.Result {
	case "allow", "deny", "ignore":
	default:
		return nil, errors.New("the result is none of allow, deny, ignore")
	}
	if a.User != "" && !validUser(a.User) {
		return nil, errors.New("the user is longer than 1024 bytes or has control characters")
	}
	return &a, nil
}

func (a *httpAnswer) verdict(q *question) verdict {
	switch {
	case a.Result == "deny":
		return refuse("the authentication service said no")
	case a.Result == "ignore":
		return undecided()
	case a.User != "":
		return accept(a.User)
	}
	return accept(q.userName())
}
